"""Edits to a converted TFLite flatbuffer, through the schema's own object API (shipped in ai-edge-litert).

The converter names inputs args_0 and, for a quantized graph, leaves them int8. Apps call signatures by name and,
unless they ask otherwise, feed floats: so inputs and outputs are renamed, and QUANTIZE/DEQUANTIZE are put around.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.tflite_objects import (
    Graph,
    Ints,
    Model,
    Operator,
    OperatorCode,
    Quantization,
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
    data: bytes,
    input_names: Sequence[str],
    output_names: Sequence[str],
    *,
    io: str,
    passed: Mapping[int, int] | None = None,
) -> tuple[bytes, dict[str, tuple[float, int]]]:
    """Name inputs and outputs, and let those that are int8 be of type `io`: float32, int8 or uint8.

    passed: place of an output that is an input → that input's, for those that the converter would round on their way.
    Returns the new file and, for each input or output that is quantized, its (scale, zero_point).
    Raises ValueError when the file has other numbers of inputs or outputs than names given.
    """
    model = unpacked(data)
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for tensors, names in ((graph.inputs, input_names), (graph.outputs, output_names)):
        if len(tensors) != len(names):
            raise ValueError(f"the file has {len(tensors)} tensors for the names {list(names)}")
    # Signature maps are sorted by the exporter's names; the model's order is the subgraph's.
    taken, given = _entries(graph.inputs, signature.inputs), _entries(graph.outputs, signature.outputs)
    passed = dict(passed or {})
    inner: dict[int, int] = {}
    for position, entry in enumerate(given):
        if io != "float32" or position in passed:
            if entry.tensorIndex not in inner:
                inner[entry.tensorIndex] = _before_float(model, graph, entry.tensorIndex)
            entry.tensorIndex = inner[entry.tensorIndex]
    inputs = [entry.tensorIndex for entry in taken]
    passed |= {at: inputs.index(e.tensorIndex) for at, e in enumerate(given) if e.tensorIndex in inputs}
    _tell_apart(model, graph, given, passed)
    for position, (entry, name) in enumerate(
        zip([*taken, *given], [*input_names, *output_names], strict=True), -len(taken)
    ):
        entry.name = name.encode()
        if position not in passed:
            graph.tensors[entry.tensorIndex].name = name.encode()
    for tensor in (t for subgraph in model.subgraphs for t in subgraph.tensors):
        tensor.name = _PRIVATE_MODULE.sub(b"", tensor.name or b"")
    left: dict[str, tuple[float, int]] = {}
    for position, entry in enumerate(taken):
        _set_type(model, graph, entry, "input", io, left)
        graph.inputs[position] = entry.tensorIndex
    for position, entry in enumerate(given):
        if position in passed:
            # What came in, in the type in which it did: not rounded on its way to an int8 layer.
            source = taken[passed[position]]
            entry.tensorIndex = _add_copy(model, graph, source.tensorIndex, entry.name)
            left |= {entry.name.decode(): left[source.name.decode()]} if source.name.decode() in left else {}
        else:
            _set_type(model, graph, entry, "output", io, left)
        graph.outputs[position] = entry.tensorIndex
    signature.signatureKey = SIGNATURE.encode()
    return packed(model, len(data) + 4096), left


def _entries(tensors: Ints, maps: list[TensorMap]) -> list[TensorMap]:
    """The signature's entries in the order of the graph's tensors; those of one tensor mean the same."""
    left = list(maps)
    return [left.pop(next(at for at, m in enumerate(left) if m.tensorIndex == int(index))) for index in tensors]


def _set_type(
    model: Model, graph: Graph, entry: TensorMap, side: str, io: str, left: dict[str, tuple[float, int]]
) -> None:
    """Let an entry that is int8 be of type `io`. left: what is noted of those that are quantized."""
    tensor = graph.tensors[entry.tensorIndex]
    if tensor.type != schema.TensorType.INT8:
        return
    if io != "float32":
        details = quantization_of(tensor)
        left[entry.name.decode()] = (float(details.scale[0]), int(details.zeroPoint[0]) + (128 if io == "uint8" else 0))
    if io != "int8":
        entry.tensorIndex = _add_outer(model, graph, entry.tensorIndex, side, io)


def _tell_apart(model: Model, graph: Graph, entries: list[TensorMap], passed: Collection[int]) -> None:
    """Give an output that is the same tensor as another (an argmax in two integer types) a copy: it has a name too."""
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        if entry.tensorIndex in seen and position not in passed:
            entry.tensorIndex = _add_copy(model, graph, entry.tensorIndex)
        seen.add(entry.tensorIndex)


def _add_copy(model: Model, graph: Graph, index: int, name: bytes = b"") -> int:
    """Add a tensor of the same values, behind a RESHAPE to its own shape; returns its index. name: its own, if any."""
    inner = graph.tensors[index]
    copy: Tensor = schema.TensorT()
    copy.shape, copy.shapeSignature, copy.hasRank = inner.shape, inner.shapeSignature, inner.hasRank
    copy.type, copy.buffer, copy.name = inner.type, 0, name or inner.name
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


def _add_outer(model: Model, graph: Graph, index: int, side: str, io: str) -> int:
    """Add a float32 or uint8 tensor for int8 tensor `index` and the op between them; returns the new tensor's index."""
    inner = graph.tensors[index]
    outer: Tensor = schema.TensorT()
    outer.shape, outer.shapeSignature, outer.hasRank = inner.shape, inner.shapeSignature, inner.hasRank
    outer.buffer, outer.name = 0, inner.name
    if io == "uint8":
        outer.type, outer.quantization = schema.TensorType.UINT8, _shifted(inner)
    else:
        outer.type = schema.TensorType.FLOAT32
    inner.name = inner.name + b"_int8"
    graph.tensors.append(outer)
    added = len(graph.tensors) - 1
    op: Operator = schema.OperatorT()
    if side == "input":
        op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.QUANTIZE)
        op.inputs, op.outputs = [added], [index]
        graph.operators.insert(0, op)
    elif io == "uint8":
        op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.QUANTIZE)
        op.inputs, op.outputs = [index], [added]
        graph.operators.append(op)
    else:
        op.opcodeIndex = _operator_code(model, schema.BuiltinOperator.DEQUANTIZE, version=2)
        op.inputs, op.outputs = [index], [added]
        graph.operators.append(op)
    return added


def _shifted(inner: Tensor) -> Quantization:
    """The same real values as levels of uint8: 128 more."""
    given = quantization_of(inner)
    quantization: Quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = given.scale, given.zeroPoint + 128
    quantization.quantizedDimension = 0
    return quantization


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
