"""What the operators of an .onnx file move, once ONNX Runtime has fused what it fuses when it loads the file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from pocketforge.runtimes.traffic import Moved, size_of, window

_SPATIAL = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm", "MatMulNBits"})
# Activations that become part of the operator before them.
_FUSED = frozenset({"Relu", "Clip", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh"})
# Between integers these are the range of the next scale: ONNX Runtime removes them (ReluQuantFusion, ClipQuantFusion).
_CLAMPS = frozenset({"Relu", "Clip"})
_DTYPES = {"float": "float32", "double": "float64"}


def read(path: Path) -> Iterator[Moved]:
    """Quantize and dequantize nodes around an operator count as part of it: it reads and writes integers."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=False)
    return _Graph(model.graph).operators()


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output, *graph.value_info)}
        self.stored = {t.name: t for t in graph.initializer}
        self.constant = set(self.stored)
        for node in self.nodes:
            if node.op_type == "Constant" or (node.input and {i for i in node.input if i} <= self.constant):
                self.constant |= set(node.output)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers = Counter(name for node in self.nodes for name in node.input)
        self.outputs = {v.name for v in graph.output}

    def operators(self) -> Iterator[Moved]:
        skipped: set[str] = set()  # outputs of nodes that are part of the one before them
        for node in self.nodes:
            if set(node.output) <= self.constant or node.output[0] in skipped or node.op_type == "DequantizeLinear":
                continue
            last = node
            while (after := self._only_reader(last.output[0])) is not None and self._joins(node, after):
                last = after
                skipped |= set(after.output)
            if node.op_type in _CLAMPS and self._integer(node) and last is not node:
                continue
            named = [name for name in node.input if name]
            inputs = [self._through(name) for name in named]
            input_bytes = sum(self._size(name) for name in inputs if name not in self.constant)
            yield Moved(
                node.op_type,
                sum(self._size(name) for name in inputs if name in self.constant),
                input_bytes,
                sum(self._size(name) for name in last.output if name),
                self._rows(node, named),
                *self._window(node, input_bytes),
            )

    def _joins(self, node: onnx.NodeProto, after: onnx.NodeProto) -> bool:
        if after.op_type == "QuantizeLinear":
            return self._integer(node)
        return after.op_type in _FUSED and (node.op_type in _SPATIAL or node.op_type in _PRODUCTS)

    def _integer(self, node: onnx.NodeProto) -> bool:
        """Whether an operator's first input is stored as integers."""
        maker = self.maker.get(node.input[0]) if node.input else None
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        if self.readers[name] != 1 or name in self.outputs:
            return None
        reader: onnx.NodeProto = next(node for node in self.nodes if name in node.input)
        return reader

    def _through(self, name: str) -> str:
        """The tensor that is stored: behind a dequantize, the integers."""
        maker = self.maker.get(name)
        return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name

    def _rows(self, node: onnx.NodeProto, named: list[str]) -> int:
        shape = self._shape(node.output[0])
        if node.op_type in _SPATIAL:
            return 0 if self._depthwise(node) else shape[0] * math.prod(shape[2:])
        constant = len(named) > 1 and named[1] in self.constant
        return math.prod(shape[:-1]) if node.op_type in _PRODUCTS and constant else 0

    def _depthwise(self, node: onnx.NodeProto) -> bool:
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        return group > 1 and group == self._shape(node.output[0])[1]

    def _window(self, node: onnx.NodeProto, input_bytes: int) -> tuple[int, int, int]:
        if node.op_type not in _SPATIAL or node.op_type == "ConvTranspose" or not self._depthwise(node):
            return 0, 0, 0
        given = {a.name: list(a.ints) for a in node.attribute if a.name in ("kernel_shape", "strides")}
        kernel, strides = given.get("kernel_shape", [1]), given.get("strides", [1])
        return *window(input_bytes, self._shape(node.input[0])[2], kernel[0], strides[0]), math.prod(kernel)

    def _shape(self, name: str) -> list[int]:
        if name in self.stored:
            return list(self.stored[name].dims)
        if name not in self.types:
            raise ValueError(f"no shape is known of {name}")
        return [d.dim_value if d.HasField("dim_value") else -1 for d in self.types[name].shape.dim]

    def _size(self, name: str) -> int:
        if name in self.constant and name not in self.stored and name not in self.types:
            return 0  # a Constant node's value: shapes and axes
        number = self.stored[name].data_type if name in self.stored else self.types[name].elem_type
        dtype = onnx.TensorProto.DataType.Name(number).lower()
        return size_of(self._shape(name), _DTYPES.get(dtype, dtype), name)
