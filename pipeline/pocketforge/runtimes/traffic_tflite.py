"""What the operators of a .tflite file move."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.tflite_objects import Ints, Model, Operator, Tensor, ints
from pocketforge.runtimes.traffic import Moved, size_of, window

_NAMES: dict[int, str] = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
# In these, positions of the output share weights; what else has constants reads each of them once.
_SHARING = frozenset({"CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL"})
# Their constants are shapes and axes, which no kernel streams.
_SHAPED = frozenset({"MEAN", "SUM", "RESHAPE", "TRANSPOSE", "SPLIT_V", "PAD", "SLICE", "STRIDED_SLICE"})
_PADDED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


def read(path: Path) -> Iterator[Moved]:
    """The operators of the first subgraph, which is what an inference runs."""
    for _, moved in operators(schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)):
        yield moved


def operators(model: Model) -> Iterator[tuple[Operator, Moved]]:
    """Each operator of a ModelT's first subgraph with what it moves.

    Padding before a convolution is part of it, as XNNPACK makes it (subgraph.c, xnn_subgraph_fusion).
    """
    graph = model.subgraphs[0]
    # XNNPACK unpacks a constant once, when the file is loaded: what it makes is constant too.
    constant = {i for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    entries = [(kind_of(model, o), o, _indices(o.inputs), _indices(o.outputs)) for o in graph.operators or ()]
    readers = Counter(i for _, _, inputs, _ in entries for i in inputs)
    convolved = Counter(i for kind, _, inputs, _ in entries if kind in _PADDED for i in inputs[:1])
    unpadded: dict[int, int] = {}
    for kind, operator, inputs, outputs in entries:
        if kind in ("DEQUANTIZE", "QUANTIZE") and set(inputs) <= constant:
            constant |= set(outputs)
            continue
        if kind == "PAD" and readers[outputs[0]] == convolved[outputs[0]]:
            unpadded[outputs[0]] = inputs[0]
            continue
        shape = graph.tensors[outputs[0]].shape
        input_bytes = sum(_size(graph.tensors[unpadded.get(i, i)]) for i in inputs if i not in constant)
        again = held = taps = 0
        if kind == "DEPTHWISE_CONV_2D":
            height = int(graph.tensors[unpadded.get(inputs[0], inputs[0])].shape[1])
            kernel = int(graph.tensors[inputs[1]].shape[1])
            again, held = window(input_bytes, height, kernel, int(getattr(operator.builtinOptions, "strideH", 1)))
            taps = math.prod(int(n) for n in graph.tensors[inputs[1]].shape[1:3])
        yield (
            operator,
            Moved(
                kind,
                0 if kind in _SHAPED else sum(_size(graph.tensors[i]) for i in inputs if i in constant),
                input_bytes,
                sum(_size(graph.tensors[i]) for i in outputs),
                math.prod(int(d) for d in shape[:-1]) if kind in _SHARING else 0,
                again,
                held,
                taps,
            ),
        )


def kind_of(model: Model, operator: Operator) -> str:
    """CONV_2D, ADD …"""
    code = model.operatorCodes[operator.opcodeIndex]
    return _NAMES.get(int(max(code.deprecatedBuiltinCode, code.builtinCode)), "CUSTOM")


def _indices(vector: Ints | None) -> list[int]:
    return [i for i in ints(vector) if i >= 0]


def _size(tensor: Tensor) -> int:
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
    return size_of(ints(tensor.shape), _TYPES.get(tensor.type, "unknown"), name)
