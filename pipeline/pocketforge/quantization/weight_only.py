"""Weight-only quantization: weights stored in 8 or 4 bits, everything computed in float32.

Symmetric, by the widest weight that shares a scale (absmax), as onnxruntime's and torchao's weight-only flows do.
Nothing is calibrated: no activation is rounded, so the error is that of the weights alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pocketforge.errors import StageFailed
from pocketforge.quantization.encodings import Encoding, grouped_order, ungrouped_order
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.quantization.weighted import op_name
from pocketforge.recipe.quantize import Quantize

# Of each op that computes with a weight: which argument it is, and the axis of its output channels. An embedding's are
# its rows: one token's values share a scale.
WEIGHTS: dict[str, tuple[int, int]] = {
    "conv1d": (1, 0),
    "conv2d": (1, 0),
    "conv3d": (1, 0),
    "linear": (1, 0),
    "embedding": (0, 0),
    "conv_transpose1d": (1, 1),
    "conv_transpose2d": (1, 1),
    "addmm": (2, 1),
    "mm": (1, 1),
    "matmul": (1, 1),
}


def quantize_weights(
    program: torch.export.ExportedProgram, quantize: Quantize
) -> tuple[torch.fx.GraphModule, dict[str, Encoding]]:
    """The graph with batch norm folded and weights rounded to what the file will hold, and their encodings by name.

    The program is left as it was. Biases, norms and other constants stay float. Embeddings take 8 bits at
    least, a scale for each row, as looking up single rows of 4 bits is in no runtime. Raises StageFailed when the model
    has no weight to quantize, or one that is not finite.
    """
    module = fold_batch_norm(program)
    tables = {str(n.args[0].target) for n in module.graph.nodes if op_name(n) == "embedding" and _is_weight(n.args[0])}
    state = module.state_dict()
    encodings: dict[str, Encoding] = {}
    for name, axis in weights_of(module.graph).items():
        weight = state[name]
        if weight.dtype != torch.float32 or weight.dim() < 2:
            continue
        values = weight.detach().numpy()
        if not np.isfinite(values).all():
            raise StageFailed(f"the weight {name} holds NaN or infinity", "train again, or check the checkpoint")
        if quantize.info.bits < 8 and name not in tables:
            size = group_size(values, axis, quantize.group_size) if "group_size" in quantize.info.keys else 0
            encoding = encode(values, axis, bits=quantize.info.bits, per_channel=quantize.by_channel, group_size=size)
        else:
            encoding = encode(values, axis, per_channel=quantize.by_channel)
        with torch.no_grad():
            weight.copy_(torch.from_numpy(encoding.values()))
        encodings[name] = encoding
    if not encodings:
        raise StageFailed(
            "no weight could be quantized: the model has no convolution, linear layer or embedding with a float32 "
            "weight of its own",
            'use scheme = "fp32" for this model',
        )
    return module, encodings


def weights_of(graph: torch.fx.Graph) -> dict[str, int]:
    """Parameter name → axis of its output channels, in the graph's order, for every weight in `WEIGHTS`."""
    axes: dict[str, int] = {}
    for node in graph.nodes:
        position, axis = WEIGHTS.get(op_name(node), (0, -1))
        if axis < 0 or len(node.args) <= position:
            continue
        source = node.args[position]
        if _is_weight(source):
            axes.setdefault(str(source.target), axis)  # weights that two layers share are encoded once
    return axes


def _is_weight(source: object) -> bool:
    return isinstance(source, torch.fx.Node) and source.op == "get_attr"


def encode(
    weight: NDArray[np.float32], axis: int, *, bits: int = 8, per_channel: bool = True, group_size: int = 0
) -> Encoding:
    """Round to the nearest of ±(2^(bits-1) - 1) steps of absmax / that many, shared as `Encoding` describes."""
    limit = 2 ** (bits - 1) - 1
    channels = weight.shape[axis] if per_channel else 1
    ordered = np.ascontiguousarray(grouped_order(weight, axis)).reshape(channels, -1)
    rows = ordered.reshape(-1, group_size) if group_size else ordered
    scales = (np.abs(rows).max(axis=1) / np.float32(limit)).astype(np.float32)
    scales[scales == 0] = 1  # all zeros: any scale is right
    levels = np.clip(np.rint(rows / scales[:, None]), -limit, limit).astype(np.int8)
    shaped = np.ascontiguousarray(ungrouped_order(levels, weight.shape, axis))
    return Encoding(shaped, scales.reshape(channels, -1) if group_size else scales, bits, axis, group_size)


def group_size(weight: NDArray[np.float32], axis: int, wanted: int) -> int:
    """The largest size of at most `wanted` that divides the inputs of a channel evenly; 0 (one scale for a channel)
    when that would be less than half of what is wanted. Never coarser than asked for, but for odd numbers of inputs.
    """
    inputs = weight.size // weight.shape[axis]
    if inputs <= wanted:
        return 0
    return next((size for size in range(wanted, wanted // 2 - 1, -1) if inputs % size == 0), 0)
