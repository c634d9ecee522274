"""For a fork server that serves many builds: the patterns that quantizing looks for, traced before its first stage.

A stage has a process of its own, and traces them for its graph, whatever it is: 2 s for calibration, 3 for training.
"""

import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.qat import TrainingGraph
    from pocketforge.recipe.quantize import Quantize

    _net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    _inputs = (torch.zeros(16, 1, 4, 4),)
    pt2e.prepare(torch.export.export(_net, (_inputs[0][:1],)), Quantize("static_int8"))
    TrainingGraph(_net, [_inputs], Quantize("qat_int8")).convert()
