"""Reads .onnx (protobuf, through `onnx`) and .ort (flatbuffer, through the reader that onnxruntime ships).

Both become the same plain nodes and constants first, so that weights, layers and quantization are read one way.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pocketforge.runtimes import onnx_ort_objects as ort
from pocketforge.runtimes.describe import (
    Contents,
    OtherBytes,
    Quantization,
    TensorInfo,
    WeightInfo,
    elements,
    is_parameter,
    stored_bytes,
)

if TYPE_CHECKING:
    import onnx

_DTYPES = {"float": "float32", "double": "float64"}
# Which inputs hold scales and zero points. Operators outside of ONNX's own domain have no schema in `onnx` to ask.
_SCALES_OF: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (1, 2)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"), (2, 3)),
    **dict.fromkeys(("QGemm",), (1, 2, 4, 5, 7, 8)),
    **dict.fromkeys(("MatMulIntegerToFloat",), (2, 3, 4, 5)),
    **dict.fromkeys(("MatMulNBits",), (2, 3, 4)),
    **dict.fromkeys(("DynamicQuantizeLSTM",), (8, 9, 10, 11)),
    **{
        f"QLinear{name}": (1, 2, 3, 4)
        for name in ("GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid", "Softmax", "ReduceMean")
    },
}
# Products of integers; where a DynamicQuantizeLinear made their first input, its range is found at run time.
_INTEGER_PRODUCTS = frozenset({"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat"})
# Weights pass through these on their way to the layer that they belong to.
_TRANSPARENT = frozenset({"DequantizeLinear", "Cast", "Transpose", "Identity", "Reshape", "Gather"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Node:
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axis: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Constant:
    shape: tuple[int, ...]
    dtype: str
    size: int
    tensor: onnx.TensorProto | ort.Tensor  # as the file holds it; decoded only where a scale or zero point is shown


@dataclasses.dataclass(slots=True)
class _Graph:
    nodes: list[_Node] = dataclasses.field(default_factory=list)
    constants: dict[str, _Constant] = dataclasses.field(default_factory=dict)
    inputs: list[TensorInfo] = dataclasses.field(default_factory=list)
    outputs: list[TensorInfo] = dataclasses.field(default_factory=list)
    external: set[str] = dataclasses.field(default_factory=set)


def parse(data: bytes, file_format: str) -> Contents:
    """Operators (those of nested graphs included), constants, opsets by domain."""
    graph = _Graph()
    metadata = _read_ort(data, graph) if file_format == "ort" else _read_onnx(data, graph)
    if not graph.nodes and not graph.outputs:
        raise ValueError("the graph has no nodes and no outputs")
    if graph.external:
        metadata["external_data"] = ", ".join(sorted(graph.external))
    weights, other = _weights(graph)
    metadata |= other.metadata(_dynamic_ops(graph))
    ops = Counter(node.op if not node.domain else f"{node.domain}.{node.op}" for node in graph.nodes)
    inputs = (_with_quantization(info, graph, "DequantizeLinear") for info in graph.inputs)
    outputs = (_with_quantization(info, graph, "QuantizeLinear") for info in graph.outputs)
    return Contents(tuple(inputs), tuple(outputs), dict(ops), weights, metadata)


def _weights(graph: _Graph) -> tuple[tuple[WeightInfo, ...], OtherBytes]:
    layers: dict[str, str] = {}
    scales: set[str] = set()
    quantized: set[str] = set()
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        roles = _SCALES_OF.get(node.op, ())
        scales |= {node.inputs[i] for i in roles if i < len(node.inputs)}
        if roles:
            quantized |= {name for i, name in enumerate(node.inputs) if i not in roles}
        layer = f"{node.op}_{counts[node.op]}"
        counts[node.op] += 1
        for name in node.inputs:
            layers.setdefault(name, layer)
    cast = {node.outputs[0] for node in graph.nodes if node.op == "Cast"}
    for node in reversed(graph.nodes):
        passes = node.op in _TRANSPARENT or (node.op == "Mul" and node.inputs[0] in cast)
        if passes and node.inputs and node.outputs and node.outputs[0] in layers:
            layers[node.inputs[0]] = layers[node.outputs[0]]
    measured = {node.outputs[1] for node in graph.nodes if node.op == "DynamicQuantizeLinear"}
    for node in graph.nodes:
        # The product of both scales, as a dynamic MatMulInteger is written: the constant one is the weight's.
        if node.op == "Mul" and measured & set(node.inputs):
            scales |= set(node.inputs)
    scales |= _scales_of_casts(graph)
    weights = []
    other = OtherBytes()
    for name, constant in graph.constants.items():
        if name in scales:
            other.quantization_bytes += constant.size
        elif is_parameter(constant.dtype, constant.shape, quantized=name in quantized):
            count = elements(constant.shape)
            layer = layers.get(name, "")
            weights.append(WeightInfo(name, constant.shape, constant.dtype, count, constant.size, layer))
        else:
            other.other_constant_bytes += constant.size
    return tuple(weights), other


def _scales_of_casts(graph: _Graph) -> set[str]:
    """Constants that stored levels are multiplied by once they are floats: how weight-only files are written.

    Levels of an embedding are looked up first, and its scales too.
    """
    origin = {name: name for name in graph.constants}
    for node in graph.nodes:
        if node.op == "Gather" and node.inputs[0] in graph.constants:
            origin[node.outputs[0]] = node.inputs[0]
    levels = {
        node.outputs[0]
        for node in graph.nodes
        if node.op == "Cast"
        and node.inputs[0] in origin
        and graph.constants[origin[node.inputs[0]]].dtype in ("int4", "uint4", "int8", "uint8")
    }
    return {
        origin[name]
        for node in graph.nodes
        if node.op == "Mul" and levels & set(node.inputs)
        for name in node.inputs
        if name in origin
    }


def _dynamic_ops(graph: _Graph) -> int:
    """How many operators work on activations that are quantized at run time."""
    ranged = {node.outputs[0] for node in graph.nodes if node.op == "DynamicQuantizeLinear"}
    return sum(
        node.op in ("DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
        or (node.op in _INTEGER_PRODUCTS and node.inputs[0] in ranged)
        for node in graph.nodes
    )


def _with_quantization(info: TensorInfo, graph: _Graph, op: str) -> TensorInfo:
    """Attach scale and zero point to an integer input or output, from the (de)quantize node that touches it."""
    for node in graph.nodes:
        touched = node.inputs[:1] if op == "DequantizeLinear" else node.outputs[:1]
        if node.op == op and touched == (info.name,) and len(node.inputs) > 1 and "int" in info.dtype:
            scale, zero = (graph.constants.get(name) for name in (*node.inputs[1:3], "")[:2])
            if scale is not None:
                scales = tuple(float(value) for value in _values(scale))
                zeros = tuple(int(value) for value in _values(zero)) if zero else (0,) * len(scales)
                axis = node.axis if len(scales) > 1 else None
                return dataclasses.replace(info, quantization=Quantization(scales, zeros, axis))
    return info


def _values(constant: _Constant) -> list[float]:
    if hasattr(constant.tensor, "RawDataAsNumpy"):
        raw: list[float] = constant.tensor.RawDataAsNumpy().view(constant.dtype).ravel().tolist()
        return raw
    from onnx import numpy_helper

    decoded: list[float] = numpy_helper.to_array(constant.tensor).ravel().tolist()
    return decoded


def _stored(dtype: str, shape: tuple[int, ...], in_file: int | None, name: str) -> int:
    """Bytes of a tensor; `in_file` is None where the data is not raw bytes in this file."""
    expected = stored_bytes(dtype, shape)
    if in_file is not None and expected is not None and in_file != expected:
        raise ValueError(f"tensor {name} of {dtype}{list(shape)} needs {expected} bytes, has {in_file}")
    return expected or in_file or 0


# --- .onnx ---------------------------------------------------------------------------------------------------------


def _read_onnx(data: bytes, graph: _Graph) -> dict[str, str]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    if not model.HasField("graph") or not model.opset_import:
        raise ValueError("no graph or no opset in the protobuf message")
    _add_onnx_graph(model.graph, graph)
    stored = {initializer.name for initializer in model.graph.initializer}
    graph.inputs = [_onnx_info(value) for value in model.graph.input if value.name not in stored]
    graph.outputs = [_onnx_info(value) for value in model.graph.output]
    metadata = {
        **{_text(entry.key): _text(entry.value) for entry in model.metadata_props},
        "ir_version": str(model.ir_version),
        "opsets": _opsets((_text(opset.domain), opset.version) for opset in model.opset_import),
        "producer": f"{_text(model.producer_name)} {_text(model.producer_version)}".strip(),
        "functions": ", ".join(_text(function.name) for function in model.functions),
    }
    return {key: value for key, value in metadata.items() if value}


def _add_onnx_graph(proto: onnx.GraphProto, graph: _Graph) -> None:
    for initializer in proto.initializer:
        _add_onnx_constant(initializer.name, initializer, graph)
    for sparse in proto.sparse_initializer:
        name, shape = _text(sparse.values.name), tuple(int(size) for size in sparse.dims)
        _add_onnx_constant(name, sparse.values, graph)
        indices = _stored("int64", tuple(sparse.indices.dims), None, name)
        dense = graph.constants[name]
        graph.constants[name] = dataclasses.replace(dense, shape=shape, size=dense.size + indices)
    for node in proto.node:
        axis = next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), None)
        _add_node(graph, _Node(_text(node.op_type), _text(node.domain), _texts(node.input), _texts(node.output), axis))
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                _add_onnx_constant(node.output[0], attribute.t, graph)
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _add_onnx_graph(inner, graph)


def _add_onnx_constant(name: str, tensor: onnx.TensorProto, graph: _Graph) -> None:
    import onnx

    name, shape, dtype = _text(name), tuple(int(size) for size in tensor.dims), onnx_dtype(tensor.data_type)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if external:
        graph.external |= {_text(entry.value) for entry in tensor.external_data if entry.key == "location"}
    in_file = None if external or not tensor.HasField("raw_data") else len(tensor.raw_data)
    graph.constants[name] = _Constant(shape, dtype, _stored(dtype, shape, in_file, name), tensor)


def _onnx_info(value: onnx.ValueInfoProto) -> TensorInfo:
    name = _text(value.name)
    if value.type.WhichOneof("value") != "tensor_type":
        return TensorInfo(name, (), str(value.type.WhichOneof("value")).removesuffix("_type"))
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else _text(d.dim_param) or "?" for d in tensor.shape.dim)
    return TensorInfo(name, shape, onnx_dtype(tensor.elem_type))


def onnx_dtype(number: int) -> str:
    import onnx

    name: str = onnx.TensorProto.DataType.Name(number).lower()
    return _DTYPES.get(name, name.replace("float8e", "float8_e"))


def _add_node(graph: _Graph, node: _Node) -> None:
    if not node.op:
        raise ValueError("a node without an operator")
    domain = "" if node.domain == "ai.onnx" else node.domain
    graph.nodes.append(dataclasses.replace(node, domain=domain))


def _opsets(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in pairs)


# --- .ort ----------------------------------------------------------------------------------------------------------


def _read_ort(data: bytes, graph: _Graph) -> dict[str, str]:
    fbs = ort_schema()
    session = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
    model = session.Model()
    proto = model.Graph()
    dtypes = ort_dtypes(fbs)
    infos = _add_ort_graph(fbs, proto, graph, dtypes)
    names = [_text(proto.Inputs(i)) for i in range(proto.InputsLength())]
    graph.inputs = [infos[name] for name in names if name not in graph.constants]
    graph.outputs = [infos[_text(proto.Outputs(i))] for i in range(proto.OutputsLength())]
    opsets = [model.OpsetImport(i) for i in range(model.OpsetImportLength())]
    entries = [model.MetadataProps(i) for i in range(model.MetadataPropsLength())]
    metadata = {
        **{_text(entry.Key()): _text(entry.Value()) for entry in entries},
        "ir_version": str(model.IrVersion()),
        "ort_version": _text(session.OrtVersion()),
        "opsets": _opsets((_text(opset.Domain()), opset.Version()) for opset in opsets),
        "producer": f"{_text(model.ProducerName())} {_text(model.ProducerVersion())}".strip(),
    }
    return {key: value for key, value in metadata.items() if value}


def ort_dtypes(fbs: ModuleType) -> dict[int, str]:
    """The schema's number of a type → its name there."""
    named = vars(fbs.TensorDataType.TensorDataType).items()
    return {number: name.lower() for name, number in named if isinstance(number, int)}


def ort_schema() -> ModuleType:
    """The flatbuffer reader inside of onnxruntime: it imports itself by a top-level name, so the path must have it."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise ImportError("onnxruntime is not installed")
    folder = str(Path(spec.origin).parent / "tools" / "ort_format_model")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("ort_flatbuffers_py.fbs")
    finally:
        sys.path.remove(folder)


def _add_ort_graph(fbs: ModuleType, proto: ort.Graph, graph: _Graph, dtypes: dict[int, str]) -> dict[str, TensorInfo]:
    for i in range(proto.InitializersLength()):
        tensor = proto.Initializers(i)
        _add_ort_constant(tensor, graph, dtypes)
    for i in range(proto.SparseInitializersLength()):
        sparse = proto.SparseInitializers(i)
        name = _add_ort_constant(sparse.Values(), graph, dtypes)
        dense, indices = graph.constants[name], sparse.Indices().RawDataLength()
        shape = tuple(int(sparse.Dims(j)) for j in range(sparse.DimsLength()))
        graph.constants[name] = dataclasses.replace(dense, shape=shape, size=dense.size + indices)
    for i in range(proto.NodesLength()):
        node = proto.Nodes(i)
        inputs = tuple(_text(node.Inputs(j)) for j in range(node.InputsLength()))
        outputs = tuple(_text(node.Outputs(j)) for j in range(node.OutputsLength()))
        attributes = [node.Attributes(j) for j in range(node.AttributesLength())]
        axis = next((int(attribute.I()) for attribute in attributes if attribute.Name() == b"axis"), None)
        _add_node(graph, _Node(_text(node.OpType()), _text(node.Domain()), inputs, outputs, axis))
        for attribute in attributes:
            if attribute.Type() == fbs.AttributeType.AttributeType.GRAPH:
                _add_ort_graph(fbs, attribute.G(), graph, dtypes)
    return {info.name: info for info in ort_infos(proto, fbs, dtypes)}


def ort_infos(proto: ort.Graph, fbs: ModuleType, dtypes: dict[int, str]) -> list[TensorInfo]:
    """All values of a graph, between its nodes too."""
    return [_ort_info(fbs, proto.NodeArgs(i), dtypes) for i in range(proto.NodeArgsLength())]


def _add_ort_constant(tensor: ort.Tensor, graph: _Graph, dtypes: dict[int, str]) -> str:
    name, dtype = _text(tensor.Name()), _ort_dtype(dtypes, tensor.DataType())
    shape = tuple(int(tensor.Dims(i)) for i in range(tensor.DimsLength()))
    external = tensor.ExternalDataOffset() >= 0
    if external:
        graph.external.add("(beside the .ort file)")
    # Reading the vector, not its length alone, proves that the file holds it all.
    in_file = None if external or dtype == "string" else 0 if tensor.RawDataIsNone() else len(tensor.RawDataAsNumpy())
    graph.constants[name] = _Constant(shape, dtype, _stored(dtype, shape, in_file, name), tensor)
    return name


def _ort_info(fbs: ModuleType, value: ort.ValueInfo, dtypes: dict[int, str]) -> TensorInfo:
    name, kind = _text(value.Name()), value.Type()
    if kind is None or kind.ValueType() != fbs.TypeInfoValue.TypeInfoValue.tensor_type:
        return TensorInfo(name, (), "unknown" if kind is None else "not a tensor")
    tensor = fbs.TensorTypeAndShape.TensorTypeAndShape()
    tensor.Init(kind.Value().Bytes, kind.Value().Pos)
    shape: list[int | str] = []
    dims = tensor.Shape()
    for i in range(0 if dims is None else dims.DimLength()):
        size = dims.Dim(i).Value()
        fixed = size is not None and size.DimType() == fbs.DimensionValueType.DimensionValueType.VALUE
        shape.append(int(size.DimValue()) if fixed else _text(size and size.DimParam()) or "?")
    return TensorInfo(name, tuple(shape), _ort_dtype(dtypes, tensor.ElemType()))


def _ort_dtype(dtypes: dict[int, str], number: int) -> str:
    name = dtypes[number]
    return _DTYPES.get(name, name.replace("float8e", "float8_e"))


def _texts(names: Iterable[bytes | str]) -> tuple[str, ...]:
    return tuple(_text(name) for name in names)


def _text(name: bytes | str | None) -> str:
    """protobuf gives a damaged string as bytes, flatbuffers gives every string so: only UTF-8 passes."""
    return name.decode("utf-8") if isinstance(name, bytes) else name or ""
