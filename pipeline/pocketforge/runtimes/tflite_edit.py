"""Edits to a converted TFLite flatbuffer, through the schema's own object API (shipped in ai-edge-litert).

The converter names inputs args_0 and, for a quantized graph, leaves them int8. Apps call signatures by name and,
unless they ask otherwise, feed floats: so inputs and outputs are renamed, and QUANTIZE/DEQUANTIZE are put around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.tflite_objects import (
    Graph,
    Ints,
    Model,
    Operator,
    OperatorCode,
    Tensor,
    TensorMap,
    packed,
    quantization_of,
    unpacked,
)

SIGNATURE = "serving_default"
# The converter names tensors after the model's classes and the private module that the user's file was loaded as. That
# one is named after the file's path: it tells a reader nothing, and would make equal models differ by their folder.
_PRIVATE_MODULE = re.compile(rb"\b_pocketforge_user_[0-9a-f]{12}\.")


def set_interface(
    data: bytes, input_names: Sequence[str], output_names: Sequence[str], *, float_io: bool
) -> tuple[bytes, dict[str, tuple[float, int]]]:
    """Name inputs and outputs, and make them float32 if asked.

    Returns the new file and, for each input or output that stays int8, its (scale, zero_point).
    Raises ValueError when the file has other numbers of inputs or outputs than names given.
    """
    model = unpacked(data)
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    sides = ((graph.inputs, signature.inputs, input_names), (graph.outputs, signature.outputs, output_names))
    for tensors, maps, names in sides:
        if len(tensors) != len(names):
            raise ValueError(f"the file has {len(tensors)} tensors for the names {list(names)}")
        _tell_apart(model, graph, tensors, maps)
        # Signature maps are sorted by the exporter's names; the model's order is the subgraph's.
        by_tensor = {m.tensorIndex: m for m in maps}
        for index, name in zip(tensors, names, strict=True):
            graph.tensors[index].name = name.encode()
            by_tensor[index].name = name.encode()
    for tensor in (t for subgraph in model.subgraphs for t in subgraph.tensors):
        tensor.name = _PRIVATE_MODULE.sub(b"", tensor.name or b"")
    left: dict[str, tuple[float, int]] = {}
    for side, (tensors, maps, names) in zip(("input", "output"), sides, strict=True):
        by_tensor = {m.tensorIndex: m for m in maps}
        for position, name in enumerate(names):
            index = int(tensors[position])
            if side == "output" and not float_io:
                entry = by_tensor[index]
                index = _before_float(model, graph, index)
                tensors[position] = entry.tensorIndex = index
                graph.tensors[index].name = name.encode()
            tensor = graph.tensors[index]
            if tensor.type != schema.TensorType.INT8:
                continue
            if not float_io:
                details = quantization_of(tensor)
                left[name] = (float(details.scale[0]), int(details.zeroPoint[0]))
                continue
            tensors[position] = by_tensor[index].tensorIndex = _add_float(model, graph, index, side)
    signature.signatureKey = SIGNATURE.encode()
    return packed(model, len(data) + 4096), left


def _tell_apart(model: Model, graph: Graph, tensors: Ints, maps: list[TensorMap]) -> None:
    """Give an output that is the same tensor as another (an argmax in two integer types) a copy: it has a name too."""
    seen: set[int] = set()
    for position, index in enumerate(int(i) for i in tensors):
        if index in seen:
            # Which of the two map entries it is says nothing: they mean the same tensor.
            entry = next(m for m in reversed(maps) if m.tensorIndex == index)
            tensors[position] = entry.tensorIndex = _add_copy(model, graph, index)
        seen.add(int(tensors[position]))


def _add_copy(model: Model, graph: Graph, index: int) -> int:
    """Add a tensor of the same values, behind a RESHAPE to its own shape; returns its index."""
    inner = graph.tensors[index]
    copy: Tensor = schema.TensorT()
    copy.shape, copy.shapeSignature, copy.hasRank = inner.shape, inner.shapeSignature, inner.hasRank
    copy.type, copy.buffer, copy.name = inner.type, 0, inner.name
    copy.quantization = inner.quantization
    graph.tensors.append(copy)
    op: Operator = schema.OperatorT()
    op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.RESHAPE)
    op.inputs, op.outputs = [index], [len(graph.tensors) - 1]
    op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    options = schema.ReshapeOptionsT()
    options.newShape = [int(n) for n in inner.shape]
    op.builtinOptions = options
    graph.operators.append(op)
    return len(graph.tensors) - 1


def _before_float(model: Model, graph: Graph, index: int) -> int:
    """The int8 tensor that the converter de-quantizes for this output, else `index`; the op goes if nobody reads it."""
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex].builtinCode
        inner = int(op.inputs[0]) if len(op.inputs) else -1
        if code != schema.BuiltinOperator.DEQUANTIZE or int(op.outputs[0]) != index:
            continue
        if graph.tensors[inner].type != schema.TensorType.INT8:
            break
        if not any(index in (int(i) for i in other.inputs) for other in graph.operators):
            graph.operators.remove(op)
        return inner
    return index


def _add_float(model: Model, graph: Graph, index: int, side: str) -> int:
    """Add a float32 tensor for int8 tensor `index` and the op between them; returns the new tensor's index."""
    inner = graph.tensors[index]
    outer: Tensor = schema.TensorT()
    outer.shape, outer.shapeSignature, outer.hasRank = inner.shape, inner.shapeSignature, inner.hasRank
    outer.type, outer.buffer, outer.name = schema.TensorType.FLOAT32, 0, inner.name
    inner.name = inner.name + b"_int8"
    graph.tensors.append(outer)
    added = len(graph.tensors) - 1
    op: Operator = schema.OperatorT()
    if side == "input":
        op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.QUANTIZE)
        op.inputs, op.outputs = [added], [index]
        graph.operators.insert(0, op)
    else:
        op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.DEQUANTIZE, version=2)
        op.inputs, op.outputs = [index], [added]
        graph.operators.append(op)
    return added


def _operator_code(model: Model, builtin: int, version: int = 1) -> int:
    for position, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return position
    added: OperatorCode = schema.OperatorCodeT()
    # Readers older than the 32-bit field use the deprecated 8-bit one.
    added.builtinCode = added.deprecatedBuiltinCode = builtin
    added.version = version
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def operator_code(model: Model, builtin: int, version: int) -> int:
    """The place of the operator code of exactly this version, which is added where it is not there."""
    for position, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version == version:
            return position
    added: OperatorCode = schema.OperatorCodeT()
    added.builtinCode = added.deprecatedBuiltinCode = builtin
    added.version = version
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def drop_unused_tensors(model: Model, number: int) -> None:
    """Drop what the removed ops read and wrote, and number the tensors that are left again."""
    graph = model.subgraphs[number]
    used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
    used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
    new = {old: position for position, old in enumerate(sorted(used))} | {-1: -1}  # -1: an input left out
    graph.tensors = [graph.tensors[old] for old in sorted(used)]
    for op in graph.operators:
        op.inputs, op.outputs = [new[int(i)] for i in op.inputs], [new[int(i)] for i in op.outputs]
    graph.inputs, graph.outputs = [new[int(i)] for i in graph.inputs], [new[int(i)] for i in graph.outputs]
    for signature in model.signatureDefs:
        if signature.subgraphIndex == number:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = new[entry.tensorIndex]


def drop_unused(model: Model) -> None:
    """Empty the buffers and drop the operator codes that nothing refers to any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
    used_codes = sorted({op.opcodeIndex for graph in model.subgraphs for op in graph.operators})
    for graph in model.subgraphs:
        for op in graph.operators:
            op.opcodeIndex = used_codes.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in used_codes]
