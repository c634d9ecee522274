"""Imported by the fork server before exports to ExecuTorch: what XNNPACK's passes look for in every graph.

They trace and lower a small graph for each pattern (attention, bilinear upsampling), once in a process. An export has a
process of its own, and would spend two thirds of its time on them: 4.7 of 7.0 s for the shipped digits model.
"""

from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

bilinear_2d.get_graphs()
sdpa.get_graphs()
