"""How good outputs are by what they are for: post-processing and the metrics of each role, streamed over the samples.

Everything here is NumPy; what needs a library of metrics imports it inside its functions (library.py).
"""
