"""Linear layers of a converted TFLite flatbuffer → int8 weights and float inputs: its kernels then quantize the inputs.

The converter is given float activations and weights behind quantize ops, and leaves both as they are:

    float constant ─ QUANTIZE ─ DEQUANTIZE ─ FULLY_CONNECTED

The quantize op is computed here, once; a FULLY_CONNECTED that reads int8 weights and a float input is the format's
dynamic ("hybrid") form.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pocketforge.errors import StageFailed
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


def fold_linear_weights(data: bytes) -> bytes:
    """Returns the file with int8 weights stored. Raises StageFailed when one goes elsewhere than to a linear layer."""
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
                    _store_int8(model, graph, int(made_by[stored].inputs[0]), stored)
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


def _store_int8(model: Model, graph: Graph, source: int, target: int) -> None:
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
    levels = np.rint(values * (np.float32(1) / scales).reshape(-1, *[1] * (values.ndim - 1)))
    if np.all(scales == scales[0]):
        # One scale for all: a form that older runtimes know.
        details.scale, details.zeroPoint, details.quantizedDimension = scales[:1], np.zeros(1, np.int64), 0
    buffer: Buffer = schema.BufferT()
    buffer.data = np.clip(levels, -LIMIT, LIMIT).astype(np.int8).reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


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
