"""Constants of a TFLite flatbuffer: read, added, and with levels."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pocketforge.metrics import Array
from pocketforge.quantization.encodings import in_nibbles
from pocketforge.runtimes.tflite_objects import Buffer, Graph, Model, Quantization, Tensor, ints


def float_constant(model: Model, graph: Graph, index: int) -> NDArray[np.float32] | None:
    """A float32 constant's values; None of what is no such."""
    tensor = graph.tensors[index]
    raw = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or raw is None or not len(raw):
        return None
    return np.frombuffer(bytes(raw), np.float32).reshape(ints(tensor.shape))


def add_tensor(
    model: Model, graph: Graph, shape: tuple[int, ...], kind: int, name: bytes, content: Array | None = None
) -> int:
    """The place of a new tensor; with content a constant. 4-bit levels are stored two in a byte."""
    tensor: Tensor = schema.TensorT()
    tensor.shape, tensor.hasRank, tensor.type, tensor.name, tensor.buffer = list(shape), True, kind, name, 0
    if content is not None:
        buffer: Buffer = schema.BufferT()
        flat = np.ascontiguousarray(content).reshape(-1)
        buffer.data = in_nibbles(flat) if kind == schema.TensorType.INT4 else flat.view(np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def set_scales(tensor: Tensor, scales: NDArray[np.float32], axis: int) -> None:
    """Symmetric levels: a scale for all, or for each place of the axis."""
    details: Quantization = schema.QuantizationParametersT()
    details.scale, details.zeroPoint = scales, np.zeros(len(scales), np.int64)
    details.quantizedDimension = axis
    tensor.quantization = details
