"""Linear layers of a converted TFLite flatbuffer → int8 weights and float inputs: its kernels then quantize the inputs.

The converter is given float activations and weights behind quantize ops, and leaves both as they are:

    float constant ─ QUANTIZE ─ DEQUANTIZE ─ FULLY_CONNECTED

The quantize op is computed here, once; a FULLY_CONNECTED that reads int8 weights and a float input is the format's
dynamic ("hybrid") form. A factor before the layer (`x * 4`, hard sigmoid's sixth) the converter takes into the
constant, and not into its scales: levels are cut off at a fourth of their range, or are a sixth of what they could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pocketforge.errors import StageFailed
from pocketforge.rewrites.graph import Editor, is_constant, op_name
from pocketforge.runtimes.tflite_constants import float_constant
from pocketforge.runtimes.tflite_edit import drop_unused, drop_unused_tensors
from pocketforge.runtimes.tflite_objects import (
    Buffer,
    Graph,
    Model,
    OperatorCode,
    kind_of,
    packed,
    quantization_of,
    unpacked,
)

# Of FULLY_CONNECTED, as the converter's own versioning says: hybrid with a scale for each channel; with one scale.
PER_CHANNEL, PER_TENSOR = 12, 5
LIMIT = 127


# A constant is a weight times a factor where no value is further off than float32's rounding makes it, of the largest.
SAME = 1e-5


@dataclass(frozen=True, slots=True)
class QuantizedConstant:
    """What a graph quantizes of its own.

    Attributes:
        values: The float weight before the conversion.
        scales: Of its levels: one, or one for each row.
    """

    values: NDArray[np.float32]
    scales: NDArray[np.float32]


def quantized_constants(module: torch.fx.GraphModule) -> list[QuantizedConstant]:
    """All that the graph quantizes of its own constants."""
    editor = Editor(module)
    found = []
    for node in editor.nodes():
        if op_name(node) in ("quantize_per_tensor", "quantize_per_channel") and is_constant(node.args[0]):
            scales = editor.value(node.args[1]) if is_constant(node.args[1]) else torch.tensor([node.args[1]])
            values = editor.value(node.args[0]).detach().float().numpy()
            found.append(QuantizedConstant(values, scales.detach().float().numpy().reshape(-1)))
    return found


def fold_linear_weights(data: bytes, constants: Sequence[QuantizedConstant]) -> bytes:
    """Returns the file with int8 weights stored. Raises StageFailed when one goes elsewhere than to a linear layer.

    constants: of the graph that was converted.
    """
    model = unpacked(data)
    for number, graph in enumerate(model.subgraphs):
        made_by = {int(op.outputs[0]): op for op in graph.operators if kind_of(model, op) in _CHAIN}
        folded: set[int] = set()
        for op in graph.operators:
            for position, index in enumerate(int(i) for i in op.inputs):
                source = made_by.get(index)
                if source is None or kind_of(model, source) != schema.BuiltinOperator.DEQUANTIZE:
                    continue
                stored = int(source.inputs[0])
                if stored not in made_by or kind_of(model, made_by[stored]) != schema.BuiltinOperator.QUANTIZE:
                    continue
                if kind_of(model, op) != schema.BuiltinOperator.FULLY_CONNECTED or position != 1:
                    name = (graph.tensors[stored].name or b"").decode("utf-8", "replace")
                    raise StageFailed(f"the int8 weight {name!r} goes to no linear layer", "see the log")
                if stored not in folded:
                    _store_int8(model, graph, int(made_by[stored].inputs[0]), stored, constants)
                    folded.add(stored)
                op.inputs[1] = stored
                one_scale = len(quantization_of(graph.tensors[stored]).scale) == 1
                op.opcodeIndex = _versioned(model, op.opcodeIndex, PER_TENSOR if one_scale else PER_CHANNEL)
        gone = {id(op) for i, op in made_by.items() if i in folded}
        gone |= {id(op) for op in made_by.values() if int(op.inputs[0]) in folded}
        graph.operators = [op for op in graph.operators if id(op) not in gone]
        drop_unused_tensors(model, number)
    drop_unused(model)
    return packed(model)


_CHAIN = (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE)


def _store_int8(model: Model, graph: Graph, source: int, target: int, constants: Sequence[QuantizedConstant]) -> None:
    """Compute the quantize op from constant tensor `source` to tensor `target`, as torch does."""
    tensor = graph.tensors[target]
    values = float_constant(model, graph, source)
    if values is None:
        raise StageFailed(
            "the converter left a weight behind a quantize op that is not a float constant", "see the log"
        )
    details = quantization_of(tensor)
    scales = np.asarray(details.scale, np.float32)
    if np.any(details.zeroPoint) or (len(scales) > 1 and details.quantizedDimension != 0):
        raise StageFailed("the converter quantized a weight in another way than by symmetric rows", "see the log")
    factor = _factor(values, scales, constants)
    if factor != 1:
        scales = details.scale = scales * np.float32(abs(factor))
    levels = np.rint(values * (np.float32(1) / scales).reshape(-1, *[1] * (values.ndim - 1)))
    if np.all(scales == scales[0]):
        # One scale for all: a form that older runtimes know.
        details.scale, details.zeroPoint, details.quantizedDimension = scales[:1], np.zeros(1, np.int64), 0
    buffer: Buffer = schema.BufferT()
    buffer.data = np.clip(levels, -LIMIT, LIMIT).astype(np.int8).reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _factor(values: NDArray[np.float32], scales: NDArray[np.float32], constants: Sequence[QuantizedConstant]) -> float:
    """What the converter has multiplied a weight by; 1 of one that it left as it was, or changed in another way."""
    factors = []
    for each in constants:
        if each.values.shape != values.shape or not np.array_equal(each.scales, scales):
            continue
        factor = float(np.vdot(values, each.values) / max(np.vdot(each.values, each.values), np.float32(1e-30)))
        if np.abs(values - factor * each.values).max() <= SAME * np.abs(values).max():
            factors.append(factor)
    return 1.0 if not factors or any(abs(each - 1) <= SAME for each in factors) else factors[0]


def _versioned(model: Model, index: int, version: int) -> int:
    """An operator code like that at `index`, of at least this version: float layers keep theirs."""
    old = model.operatorCodes[index]
    version = max(version, old.version)
    for position, code in enumerate(model.operatorCodes):
        if code.builtinCode == old.builtinCode and code.version == version:
            return position
    added: OperatorCode = schema.OperatorCodeT()
    added.builtinCode, added.deprecatedBuiltinCode, added.version = old.builtinCode, old.deprecatedBuiltinCode, version
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1
