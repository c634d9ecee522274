"""Reads .tflite (LiteRT) flatbuffers with the schema that ai-edge-litert ships; no interpreter, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.describe import (
    Contents,
    OtherBytes,
    Quantization,
    TensorInfo,
    WeightInfo,
    elements,
    is_parameter,
    item_at,
    stored_bytes,
)
from pocketforge.runtimes.tflite_objects import Buffer, Graph, Model, OperatorCode, Tensor, ints

_RENAMED = {"float8e5m2": "float8_e5m2", "float8e4m3fn": "float8_e4m3fn"}
_LONGEST_METADATA = 4096


def _enum_names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_OPERATORS = _enum_names(schema.BuiltinOperator)
_TYPES = _enum_names(schema.TensorType)


def parse(data: bytes, file_format: str) -> Contents:
    """Operators over all subgraphs, constants by their buffers, inputs and outputs by their signatures."""
    model: Model = schema.ModelT.InitFromPackedBuf(data, 0)
    if not model.subgraphs or not model.buffers:
        raise ValueError("the model has no subgraph or no buffers")
    names = [operator_name(code) for code in model.operatorCodes or ()]
    ops: Counter[str] = Counter()
    weights: list[WeightInfo] = []
    other = OtherBytes()
    seen_buffers: set[int] = set()
    dynamic = 0
    for subgraph in model.subgraphs:
        layers: dict[int, str] = {}
        for operator in subgraph.operators or ():
            name = item_at(names, operator.opcodeIndex)
            inputs = () if operator.inputs is None else operator.inputs
            for index in inputs:
                layers.setdefault(int(index), f"{name}_{ops[name]}")
            ops[name] += 1
            dynamic += _is_dynamic(subgraph, inputs)
        for operator in subgraph.operators or ():
            # A constant that is only unpacked first belongs to the operator behind.
            if item_at(names, operator.opcodeIndex) == "DEQUANTIZE" and int(operator.outputs[0]) in layers:
                layers[int(operator.inputs[0])] = layers[int(operator.outputs[0])]
        scales = _scales_of_groups(model, subgraph, names)
        for index, tensor in enumerate(subgraph.tensors or ()):
            buffer = item_at(model.buffers, tensor.buffer)
            size = _buffer_size(buffer, data)
            # Buffer 0 is the empty one by convention; converters share one buffer between equal constants.
            if not size or tensor.buffer in seen_buffers:
                continue
            seen_buffers.add(tensor.buffer)
            if index in scales:
                other.quantization_bytes += size
                continue
            _add_constant(weights, other, tensor, size, layers.get(index, ""))
    inputs_info, outputs_info = _interface(model)
    metadata = _metadata(model, data) | other.metadata(dynamic)
    custom = sorted(name.removeprefix("custom:") for name in ops if name.startswith("custom:"))
    if custom:
        metadata["custom_ops"] = ", ".join(custom)
    return Contents(inputs_info, outputs_info, dict(ops), tuple(weights), metadata)


def _scales_of_groups(model: Model, subgraph: Graph, names: list[str]) -> set[int]:
    """Constants that dequantized constants are multiplied by: how weights with a scale for each group are written."""
    constants = {i for i, t in enumerate(subgraph.tensors or ()) if item_at(model.buffers, t.buffer).data is not None}
    levels: set[int] = set()
    scales: set[int] = set()
    for operator in subgraph.operators or ():
        name, inputs = item_at(names, operator.opcodeIndex), set(ints(operator.inputs))
        if name == "DEQUANTIZE" and inputs <= constants:
            levels |= set(ints(operator.outputs))
        elif name == "MUL" and inputs & levels:
            scales |= inputs & constants
    return scales


def _is_dynamic(subgraph: Graph, inputs: Sequence[int]) -> bool:
    """Whether an operator reads float values and, second, int8 weights: it then quantizes the values itself."""
    if len(inputs) < 2 or min(inputs[0], inputs[1]) < 0:
        return False
    values, weights = (subgraph.tensors[int(i)].type for i in inputs[:2])
    return bool(values == schema.TensorType.FLOAT32 and weights == schema.TensorType.INT8)


def _add_constant(weights: list[WeightInfo], other: OtherBytes, tensor: Tensor, size: int, layer: str) -> None:
    shape, dtype, quantization = _shape(tensor), dtype_of(tensor), _quantization(tensor)
    expected = stored_bytes(dtype, shape)
    if tensor.sparsity is None and expected is not None and expected != size:
        raise ValueError(f"tensor {_text(tensor.name)} of {dtype}{list(shape)} needs {expected} bytes, has {size}")
    if quantization:
        # A float32 scale for each channel; zero points are 64-bit in the schema.
        other.quantization_bytes += 4 * len(quantization.scales) + 8 * len(quantization.zero_points)
    if not is_parameter(dtype, shape, quantized=quantization is not None):
        other.other_constant_bytes += size
        return
    weights.append(WeightInfo(_text(tensor.name), shape, dtype, elements(shape), size, layer))


def _interface(model: Model) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs, under the names of the signatures where the file has them."""
    signatures = model.signatureDefs or []
    if not signatures:
        first = model.subgraphs[0]
        return (
            tuple(_tensor_info(item_at(first.tensors, i)) for i in ints(first.inputs)),
            tuple(_tensor_info(item_at(first.tensors, i)) for i in ints(first.outputs)),
        )
    inputs, outputs = [], []
    for signature in signatures:
        tensors = item_at(model.subgraphs, signature.subgraphIndex).tensors
        prefix = f"{_text(signature.signatureKey)}/" if len(signatures) > 1 else ""
        inputs += [
            _tensor_info(item_at(tensors, m.tensorIndex), prefix + _text(m.name)) for m in signature.inputs or ()
        ]
        outputs += [
            _tensor_info(item_at(tensors, m.tensorIndex), prefix + _text(m.name)) for m in signature.outputs or ()
        ]
    return tuple(inputs), tuple(outputs)


def _tensor_info(tensor: Tensor, name: str = "") -> TensorInfo:
    shape: tuple[int | str, ...] = _shape(tensor)
    if tensor.shapeSignature is not None and len(tensor.shapeSignature):
        shape = tuple(int(size) if size >= 0 else "?" for size in tensor.shapeSignature)
    return TensorInfo(name or _text(tensor.name), shape, dtype_of(tensor), _quantization(tensor))


def _quantization(tensor: Tensor) -> Quantization | None:
    details = tensor.quantization
    if details is None or details.scale is None or not len(details.scale):
        return None
    scales = tuple(float(scale) for scale in details.scale)
    zeros = () if details.zeroPoint is None else tuple(int(zero) for zero in details.zeroPoint)
    return Quantization(scales, zeros, int(details.quantizedDimension) if len(scales) > 1 else None)


def _metadata(model: Model, data: bytes) -> dict[str, str]:
    result = {"schema_version": str(model.version), "subgraphs": str(len(model.subgraphs))}
    signatures = model.signatureDefs or []
    if len(signatures) > 1 or any(each.subgraphIndex for each in signatures):
        # A file without them runs its first subgraph.
        named = (_text(each.signatureKey) + f" (subgraph {each.subgraphIndex})" for each in signatures)
        result["signatures"] = ", ".join(named)
    if model.description:
        result["description"] = _text(model.description)
    for entry in model.metadata or ():
        content = item_at(model.buffers, entry.buffer).data
        raw = b"" if content is None else bytes(content)
        text = raw.rstrip(b"\0").decode("utf-8", errors="replace")
        readable = len(raw) <= _LONGEST_METADATA and "\ufffd" not in text and text.isprintable()
        result.setdefault(_text(entry.name), text if readable else f"({len(raw)} bytes)")
    return result


def operator_name(code: OperatorCode) -> str:
    # Codes above 126 do not fit the old 8-bit field, which then holds a placeholder: the schema says to take the max.
    number = max(code.deprecatedBuiltinCode, code.builtinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return f"custom:{_text(code.customCode)}"
    if number not in _OPERATORS:
        raise ValueError(f"unknown built-in operator {number}")
    return _OPERATORS[number]


def _buffer_size(buffer: Buffer, data: bytes) -> int:
    if buffer.data is not None:
        return len(buffer.data)
    # Models beyond 2 GB keep their buffers behind the flatbuffer; offset 1 is the schema's mark of "not set yet".
    if buffer.offset > 1 and buffer.offset + buffer.size > len(data):
        raise ValueError(f"a buffer ends at byte {buffer.offset + buffer.size}")
    return int(buffer.size) if buffer.offset > 1 else 0


def dtype_of(tensor: Tensor) -> str:
    if tensor.type not in _TYPES:
        raise ValueError(f"unknown tensor type {tensor.type}")
    name = _TYPES[tensor.type].lower()
    return _RENAMED.get(name, name)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(ints(tensor.shape))


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name or ""
