"""Static int8 through PT2E with XNNPACK's quantizer: one graph per numerics serves all three runtimes.

Method: Jacob et al. 2018 (affine quantization); torchao's PT2E flow and ExecuTorch's XNNPACKQuantizer.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

# XNNPACK's configuration never goes below a scale of 2^-12, which wrecks layers with small activations; observers'
# own default does not, and still keeps 6 / scale (ReLU6) within the int32 that runtimes compute it in.
SMALLEST_SCALE = float(torch.finfo(torch.float32).eps)
HEAVY = ("conv1d", "conv2d", "conv3d", "linear", "addmm", "matmul", "mm", "bmm")


def config(*, per_channel: bool, observer: str) -> Any:
    """XNNPACK's numerics: int8 affine activations per tensor, int8 symmetric weights in ±127."""
    base = get_symmetric_quantization_config(is_per_channel=per_channel)
    activation = HistogramObserver if observer == "histogram" else MinMaxObserver
    weight = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    return dataclasses.replace(
        base,
        input_activation=observed(base.input_activation, activation),
        output_activation=observed(base.output_activation, activation),
        weight=observed(base.weight, weight),
    )


def observed(spec: Any, kind: Any) -> Any:
    """A quantization spec with an observer of `kind` that lets scales be small."""
    return dataclasses.replace(spec, observer_or_fake_quant_ctr=kind.with_args(eps=SMALLEST_SCALE))


def quantize_static(
    program: torch.export.ExportedProgram,
    samples: list[np.ndarray[Any, Any]],
    *,
    per_channel: bool,
    observer: str,
    progress: Callable[[float], None],
) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """Calibrate on `samples` (one array an input, samples first) and convert.

    Returns (folded, unfolded): int8 weights stored, for ExecuTorch and ONNX; float weights behind their quantize
    ops, for TFLite's converter. Both compute the same.
    """
    quantizer = XNNPACKQuantizer().set_global(config(per_channel=per_channel, observer=observer))
    prepared = prepare_pt2e(program.module(), quantizer)
    count = len(samples[0])
    with torch.no_grad():
        for index in range(count):
            prepared(*(torch.from_numpy(np.array(array[index : index + 1])) for array in samples))
            if index % max(1, count // 20) == 0:
                progress(index / count)
    unfolded = convert_pt2e(copy.deepcopy(prepared), fold_quantize=False)
    return convert_pt2e(prepared), unfolded


def describe(graph: torch.fx.Graph) -> dict[str, Any]:
    """Which heavy ops compute in int8 and which stayed float, and the output's scale and zero point."""
    quantized: list[str] = []
    left_float: list[str] = []
    for node in graph.nodes:
        name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
        if node.op != "call_function" or name not in HEAVY:
            continue
        sources = [a for a in node.args[:2] if isinstance(a, torch.fx.Node)]
        int8 = bool(sources) and all("dequantize" in str(a.target) for a in sources)
        (quantized if int8 else left_float).append(f"{name} ({_layer(node)})")
    outputs = []
    for value in next(n for n in graph.nodes if n.op == "output").args[0]:
        if isinstance(value, torch.fx.Node) and "dequantize_per_tensor" in str(value.target):
            outputs.append({"scale": float(value.args[1]), "zero_point": int(value.args[2])})
        else:
            outputs.append({})
    return {"quantized": quantized, "float": left_float, "outputs": outputs}


def _layer(node: torch.fx.Node) -> str:
    """The layer an op belongs to, by its weight's name: the module stack is lost when a traced graph is loaded."""
    for argument in node.args[1:2]:
        while isinstance(argument, torch.fx.Node):
            if argument.op == "get_attr":
                return str(argument.target).removesuffix(".weight")
            argument = argument.args[0] if argument.args else None
    return str(node.name)
