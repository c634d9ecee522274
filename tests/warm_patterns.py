"""For a fork server that serves many builds: the patterns that quantizing looks for, traced before its first stage.

A stage has a process of its own, and traces them for its graph, whatever it is: 2 s for calibration, 3 for training.
And the operators of the shipped net, which an export to ONNX reads one by one: .3 s. (LiteRT's converter starts
threads, which no process has that is forked then.)
"""

import gc
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from huge_pages import collapse
from seldom_collected import SELDOM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.qat import TrainingGraph
    from pocketforge.recipe.quantize import Quantize

    _net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    _inputs = (torch.zeros(16, 1, 4, 4),)
    pt2e.prepare(torch.export.export(_net, (_inputs[0][:1],)), Quantize("static_int8"))
    TrainingGraph(_net, [_inputs], Quantize("qat_int8")).convert()

    from pocketforge.measure.trial import export_float
    from pocketforge.model import load

    _digits = Path(__file__).resolve().parents[1] / "models" / "digits_cnn" / "model.py"
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as _folder:
        _narrow = load.build_model(str(_digits), {"width": 4}, Path)
        export_float(_narrow, load.example_inputs(str(_digits), Path) or (), "onnx", Path(_folder))


def without_inductor() -> None:
    """The toolchains are here, and ExecuTorch without torch's compiler of kernels (rewrites/auto_functionalized.py)."""
    program = sys.modules["executorch.exir.program._program"]
    assert program.unsafe_remove_auto_functionalized_pass.__module__ == "pocketforge.rewrites.auto_functionalized"
    assert "torch._inductor.fx_passes.post_grad" not in sys.modules


gc.set_threshold(*SELDOM)  # of all stages, which are forked from here
collapse()
