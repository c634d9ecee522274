"""Write a .tflite file operator by operator, straight from the flatbuffer schema (shipped in ai-edge-litert).

Calibration needs hundreds of small models whose every shape is given; a converter would take seconds for each and
decide about padding and fusing by itself. Weights are drawn from one seeded generator, so equal calls give equal bytes.
Layout is NHWC. A graph is float32 or int8 (activations per tensor, convolution weights per output channel, symmetric).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pocketforge.metrics import Array

Precision = Literal["fp32", "int8"]
Activation = Literal["none", "relu", "relu6"]
Padding = Literal["same", "valid"]

SIGNATURE = "serving_default"
# Every activation is made to be of about unit variance; ±6.35 then loses nothing that matters.
_SCALE, _ZERO = 0.05, 0
_RELU_SCALE, _RELU_ZERO = 6.0 / 255.0, -128
# Softmax and the hard sigmoid end in [0, 1]; TFLite fixes this scale for int8 softmax.
_UNIT_SCALE, _UNIT_ZERO = 1.0 / 256.0, -128

# Operator versions that the runtimes ask for: (float32, int8).
_VERSIONS = {
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 4),
    "HARD_SWISH": (1, 1),
    "RESHAPE": (1, 1),
}
_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph being written.

    Attributes:
        index: In the graph.
        shape: NHWC.
        scale: Of int8 values; 0 of float32 and of weights, which have one a channel.
        zero: Their zero point.
    """

    index: int
    shape: tuple[int, ...]
    scale: float = 0.0
    zero: int = 0


@dataclass(frozen=True, slots=True)
class _Window:
    """How a convolution goes over its input, and what it makes."""

    kernel: int
    stride: int
    padding: Padding
    activation: Activation

    def reached(self, size: int) -> int:
        """Positions along a dimension of that size."""
        return -(-size // self.stride) if self.padding == "same" else (size - self.kernel) // self.stride + 1


class Graph:
    """A graph with one input and one output; methods add an operator and return its output tensor."""

    def __init__(self, name: str, precision: Precision, seed: int) -> None:
        self.precision = precision
        self._name = name
        self._random = np.random.default_rng(seed)
        self._buffers: list[NDArray[np.uint8] | None] = [None]
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: list[tuple[int, int]] = []
        self._input: Tensor | None = None

    def input(self, *shape: int) -> Tensor:
        """The graph's only input."""
        self._input = self._activation(shape, "input")
        return self._input

    def conv2d(
        self,
        x: Tensor,
        channels: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: Padding = "same",
        activation: Activation = "none",
    ) -> Tensor:
        """2-D convolution with a bias; weights (channels, kernel, kernel, input channels)."""
        weights = self._weights((channels, kernel, kernel, x.shape[3]), fan_in=kernel * kernel * x.shape[3], axis=0)
        options = schema.Conv2DOptionsT()
        options.dilationHFactor = options.dilationWFactor = 1
        return self._convolve("CONV_2D", x, weights, channels, _Window(kernel, stride, padding, activation), options)

    def depthwise(
        self, x: Tensor, kernel: int, stride: int = 1, *, padding: Padding = "same", activation: Activation = "none"
    ) -> Tensor:
        """Depthwise 2-D convolution (multiplier 1) with a bias; weights (1, kernel, kernel, channels)."""
        channels = x.shape[3]
        weights = self._weights((1, kernel, kernel, channels), fan_in=kernel * kernel, axis=3)
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = options.dilationHFactor = options.dilationWFactor = 1
        window = _Window(kernel, stride, padding, activation)
        return self._convolve("DEPTHWISE_CONV_2D", x, weights, channels, window, options)

    def fully_connected(self, x: Tensor, units: int, *, activation: Activation = "none") -> Tensor:
        """Dense layer over the last dimension, leading dimensions kept; weights (units, input features)."""
        features = x.shape[-1]
        weights = self._weights((units, features), fan_in=features, axis=0)
        bias = self._bias(units, x, weights)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, options.keepNumDims = _FUSED[activation], len(x.shape) > 2
        # Per-channel weights and kept dimensions each ask for a newer operator version.
        version = (5 if len(x.shape) > 2 else 1) if self.precision == "fp32" else 12
        y = self._activation((*x.shape[:-1], units), "dense", activation)
        return self._add("FULLY_CONNECTED", [x.index, weights.index, bias], y, options, version=version)

    def matrix(self, units: int, features: int) -> Tensor:
        """Constant weights for `product`."""
        return self._weights((units, features), fan_in=features, axis=0)

    def product(
        self,
        x: Tensor,
        weights: Tensor,
        *,
        bias: float | None = None,
        activation: Activation = "none",
        keep: bool = True,
    ) -> Tensor:
        """Float32 FULLY_CONNECTED with given weights (units, features): constant, or what another operator made.

        bias: The same for every unit; None is no third input. keep: Leading dimensions; without it they become one.
        """
        units = weights.shape[0]
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, options.keepNumDims = _FUSED[activation], keep and len(x.shape) > 2
        inputs = [x.index, weights.index]
        if bias is not None:
            inputs.append(self._constant(np.full(units, bias, np.float32), name="bias"))
        leading = x.shape[:-1] if keep else (math.prod(x.shape[:-1]),)
        y = self._activation((*leading, units), "dense", activation)
        # The converter asks for these versions: 6 without a bias, 5 for kept dimensions.
        version = 6 if bias is None else 5 if keep and len(x.shape) > 2 else 1
        return self._add("FULLY_CONNECTED", inputs, y, options, version=version)

    def add(self, a: Tensor, b: Tensor, *, activation: Activation = "none") -> Tensor:
        """Elementwise sum with broadcasting."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _FUSED[activation]
        return self._add("ADD", [a.index, b.index], self._activation(_broadcast(a, b), "add", activation), options)

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        """Elementwise difference with broadcasting."""
        options = schema.SubOptionsT()
        return self._add("SUB", [a.index, b.index], self._activation(_broadcast(a, b), "sub"), options)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Elementwise product with broadcasting."""
        options = schema.MulOptionsT()
        return self._add("MUL", [a.index, b.index], self._activation(_broadcast(a, b), "mul"), options)

    def squared_difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Elementwise (a - b)²."""
        y = self._activation(_broadcast(a, b), "squared_difference")
        return self._add("SQUARED_DIFFERENCE", [a.index, b.index], y, schema.SquaredDifferenceOptionsT())

    def rsqrt(self, x: Tensor) -> Tensor:
        """Elementwise 1/√x."""
        return self._add("RSQRT", [x.index], self._activation(x.shape, "rsqrt"), None)

    def mean(self, x: Tensor, axes: Sequence[int], *, keep: bool) -> Tensor:
        """Mean over `axes`."""
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        if keep:
            shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        else:
            shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        y = self._activation(shape, "mean")
        return self._add("MEAN", [x.index, self._integers(axes)], y, options)

    def hard_swish(self, x: Tensor) -> Tensor:
        """x · relu6(x + 3) / 6."""
        return self._add("HARD_SWISH", [x.index], self._activation(x.shape, "hard_swish"), schema.HardSwishOptionsT())

    def softmax(self, x: Tensor) -> Tensor:
        """Softmax over the last dimension."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        y = self._activation(x.shape, "softmax", quantized=(_UNIT_SCALE, _UNIT_ZERO))
        return self._add("SOFTMAX", [x.index], y, options)

    def average_pool(self, x: Tensor, size: int, stride: int) -> Tensor:
        """Average pooling, no padding."""
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.VALID
        options.filterHeight = options.filterWidth = size
        options.strideH = options.strideW = stride
        height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
        # The kernel averages the integers themselves: input and output share their scale.
        y = self._activation((x.shape[0], height, width, x.shape[3]), "pool", quantized=(x.scale, x.zero))
        return self._add("AVERAGE_POOL_2D", [x.index], y, options)

    def pad(self, x: Tensor, border: int) -> Tensor:
        """Zero padding of height and width by `border` on each side."""
        amounts = self._constant(np.array([[0, 0], [border] * 2, [border] * 2, [0, 0]], np.int32))
        shape = (x.shape[0], x.shape[1] + 2 * border, x.shape[2] + 2 * border, x.shape[3])
        y = self._activation(shape, "pad", quantized=(x.scale, x.zero))
        return self._add("PAD", [x.index, amounts], y, schema.PadOptionsT())

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """The same values in another shape."""
        if math.prod(shape) != math.prod(x.shape):
            raise ValueError(f"{x.shape} cannot be reshaped to {shape}")
        if shape == x.shape:
            return x
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        y = self._activation(shape, "reshape", quantized=(x.scale, x.zero))
        return self._add("RESHAPE", [x.index, self._integers(shape)], y, options)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        """Permuted dimensions."""
        y = self._activation(tuple(x.shape[i] for i in order), "transpose", quantized=(x.scale, x.zero))
        return self._add("TRANSPOSE", [x.index, self._integers(order)], y, schema.TransposeOptionsT())

    def split(self, x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Parts of the last dimension, of `sizes`."""
        axis = len(x.shape) - 1
        options = schema.SplitVOptionsT()
        options.numSplits = len(sizes)
        parts = [self._activation((*x.shape[:-1], n), "split", quantized=(x.scale, x.zero)) for n in sizes]
        inputs = [x.index, self._integers(sizes), self._constant(np.array(axis, np.int32))]
        self._operator("SPLIT_V", inputs, [p.index for p in parts], options)
        return parts

    def unstack(self, x: Tensor) -> list[Tensor]:
        """Parts of the first dimension, one each, which keep it."""
        options = schema.SplitOptionsT()
        options.numSplits = x.shape[0]
        parts = [self._activation((1, *x.shape[1:]), "split", quantized=(x.scale, x.zero)) for _ in range(x.shape[0])]
        axis = self._constant(np.array(0, np.int32))
        self._operator("SPLIT", [axis, x.index], [p.index for p in parts], options)
        return parts

    def pack(self, parts: Sequence[Tensor]) -> Tensor:
        """Equal shapes, one after another along a new first dimension."""
        options = schema.PackOptionsT()
        options.valuesCount, options.axis = len(parts), 0
        first = parts[0]
        y = self._activation((len(parts), *first.shape), "pack", quantized=(first.scale, first.zero))
        return self._add("PACK", [p.index for p in parts], y, options)

    def batch_matmul(self, a: Tensor, b: Tensor, *, transpose_b: bool = False) -> Tensor:
        """Matrix product over the last two dimensions."""
        options = schema.BatchMatMulOptionsT()
        options.adjY = transpose_b
        columns = b.shape[-2] if transpose_b else b.shape[-1]
        y = self._activation((*a.shape[:-1], columns), "matmul")
        return self._add("BATCH_MATMUL", [a.index, b.index], y, options)

    def constant(self, values: NDArray[np.float32]) -> Tensor:
        """A constant operand in the graph's precision."""
        if self.precision == "fp32":
            return Tensor(self._constant(values.astype(np.float32)), values.shape)
        scale = float(np.abs(values).max()) / 127 or 1.0
        integers = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
        return Tensor(self._constant(integers, scales=[scale], zeros=[0]), values.shape, scale, 0)

    def random(self, *shape: int) -> NDArray[np.float32]:
        """Values from the graph's own generator (standard normal)."""
        return self._random.standard_normal(shape, np.float32)

    def finish(self, output: Tensor) -> bytes:
        """The file, with one signature whose input is `x` and output `y`."""
        if self._input is None:
            raise ValueError("the graph has no input")
        subgraph = schema.SubGraphT()
        subgraph.name, subgraph.tensors, subgraph.operators = b"main", self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = [self._input.index], [output.index]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
        signature.inputs, signature.outputs = [_named("x", self._input)], [_named("y", output)]
        model = schema.ModelT()
        model.version, model.description, model.subgraphs = 3, self._name.encode(), [subgraph]
        model.signatureDefs, model.operatorCodes = [signature], []
        for builtin, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            model.operatorCodes.append(code)
        model.buffers = []
        for data in self._buffers:
            buffer = schema.BufferT()
            buffer.data = data
            model.buffers.append(buffer)
        builder = flatbuffers.Builder(sum(0 if b is None else b.size for b in self._buffers) + 65536)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _convolve(
        self,
        kind: str,
        x: Tensor,
        weights: Tensor,
        channels: int,
        window: _Window,
        options: schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT,
    ) -> Tensor:
        bias = self._bias(channels, x, weights)
        options.padding = schema.Padding.SAME if window.padding == "same" else schema.Padding.VALID
        options.strideH = options.strideW = window.stride
        options.fusedActivationFunction = _FUSED[window.activation]
        height, width = (window.reached(size) for size in x.shape[1:3])
        y = self._activation((x.shape[0], height, width, channels), kind.lower(), window.activation)
        return self._add(kind, [x.index, weights.index, bias], y, options)

    def _activation(
        self,
        shape: Sequence[int],
        name: str,
        activation: Activation = "none",
        quantized: tuple[float, int] | None = None,
    ) -> Tensor:
        if self.precision == "fp32":
            return Tensor(self._tensor(shape, schema.TensorType.FLOAT32, 0, name), tuple(shape))
        scale, zero = quantized or ((_SCALE, _ZERO) if activation == "none" else (_RELU_SCALE, _RELU_ZERO))
        index = self._tensor(shape, schema.TensorType.INT8, 0, name, scales=[scale], zeros=[zero])
        return Tensor(index, tuple(shape), scale, zero)

    def _weights(self, shape: tuple[int, ...], *, fan_in: int, axis: int) -> Tensor:
        """Weights that keep unit variance; int8 per channel of `axis`, their scales in `_scales` of the tensor."""
        values = self._random.standard_normal(shape, np.float32) * np.float32(math.sqrt(1.0 / fan_in))
        if self.precision == "fp32":
            return Tensor(self._constant(values, name="weights"), shape)
        others = tuple(i for i in range(len(shape)) if i != axis)
        peaks = np.abs(values).max(axis=others, keepdims=True)
        scales = np.where(peaks > 0, peaks, 1).astype(np.float32) / np.float32(127)
        integers = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
        flat = scales.reshape(-1)
        index = self._constant(integers, scales=flat.tolist(), zeros=[0] * flat.size, axis=axis, name="weights")
        return Tensor(index, shape)

    def _bias(self, units: int, x: Tensor, weights: Tensor) -> int:
        values = self._random.standard_normal(units, np.float32) * np.float32(0.1)
        if self.precision == "fp32":
            return self._constant(values, name="bias")
        scales = np.array(self._tensors[weights.index].quantization.scale, np.float32) * np.float32(x.scale)
        integers = np.rint(values / scales).astype(np.int32)
        return self._constant(integers, scales=scales.tolist(), zeros=[0] * units, axis=0, name="bias")

    def _integers(self, values: Sequence[int]) -> int:
        return self._constant(np.array(values, np.int32))

    def _constant(
        self,
        values: Array,
        *,
        scales: Sequence[float] = (),
        zeros: Sequence[int] = (),
        axis: int = 0,
        name: str = "constant",
    ) -> int:
        kinds = {
            "float32": schema.TensorType.FLOAT32,
            "int32": schema.TensorType.INT32,
            "int8": schema.TensorType.INT8,
        }
        self._buffers.append(np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8))
        buffer = len(self._buffers) - 1
        return self._tensor(values.shape, kinds[values.dtype.name], buffer, name, scales, zeros, axis)

    def _tensor(
        self,
        shape: Sequence[int],
        kind: int,
        buffer: int,
        name: str,
        scales: Sequence[float] = (),
        zeros: Sequence[int] = (),
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer, tensor.hasRank = list(shape), kind, buffer, True
        tensor.name = f"{name}_{len(self._tensors)}".encode()
        if scales:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = list(scales), list(zeros)
            tensor.quantization.quantizedDimension = axis
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _add(self, kind: str, inputs: Sequence[int], y: Tensor, options: object, version: int | None = None) -> Tensor:
        self._operator(kind, inputs, [y.index], options, version)
        return y

    def _operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: object, version: int | None = None
    ) -> None:
        if version is None:
            version = _VERSIONS.get(kind, (1, 2))[self.precision == "int8"]
        code = (getattr(schema.BuiltinOperator, kind), version)
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)


def _broadcast(a: Tensor, b: Tensor) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(a.shape, b.shape))


def _named(name: str, tensor: Tensor) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), tensor.index
    return entry
