"""Steps of a build on several machines: Dask carries a step to a worker and tells when that dies; what runs where and
what is repeated is decided here.

offers.py and placement.py know no Dask: what workers offer, what steps ask, who gets which, who dies of what. link.py
(of a build) and serve.py (of a worker, a scheduler) are the only ones that import it. A worker runs a step in a
process of its own over its own store (node.py); files go through the scheduler's authenticated connection
(transfer.py).
"""
