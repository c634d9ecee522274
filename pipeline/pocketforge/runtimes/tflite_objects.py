"""What we read and change of the objects that LiteRT's schema (generated, untyped) unpacks a .tflite into.

Names are the schema's. Vectors of an unpacked file are NumPy arrays, those that we put in are lists; a vector that a
file leaves out is None, which the converter's files never do: files from elsewhere are read through `ints`.
"""
# ruff: noqa: N802, N815 - the schema's names

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Ints = MutableSequence[int]


class Quantization(Protocol):
    """QuantizationParametersT: affine, one scale or one for each place of an axis."""

    scale: NDArray[np.float32]
    zeroPoint: NDArray[np.int64]
    quantizedDimension: int


class Tensor(Protocol):
    """TensorT. buffer: 0 is the empty one."""

    name: bytes
    shape: Ints
    shapeSignature: Ints | None
    hasRank: bool
    type: int
    buffer: int
    quantization: Quantization | None
    sparsity: object


class Operator(Protocol):
    """OperatorT. inputs, outputs: places of tensors, -1 for an input left out."""

    opcodeIndex: int
    inputs: Ints
    outputs: Ints
    builtinOptionsType: int
    builtinOptions: object


class OperatorCode(Protocol):
    """OperatorCodeT. Codes above 126 do not fit the old 8-bit field, which then holds a placeholder."""

    builtinCode: int
    deprecatedBuiltinCode: int
    version: int
    customCode: bytes | None


class Graph(Protocol):
    """SubGraphT."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: Ints
    outputs: Ints


class TensorMap(Protocol):
    """TensorMapT: an input or output under the name that apps use."""

    name: bytes
    tensorIndex: int


class Signature(Protocol):
    """SignatureDefT."""

    signatureKey: bytes
    subgraphIndex: int
    inputs: list[TensorMap]
    outputs: list[TensorMap]


class Buffer(Protocol):
    """BufferT. offset, size: of data behind the flatbuffer, in files beyond 2 GB; 0 and 1 are no offsets."""

    data: NDArray[np.uint8] | None
    offset: int
    size: int


class Metadata(Protocol):
    """MetadataT."""

    name: bytes
    buffer: int


class Model(Protocol):
    """ModelT."""

    version: int
    description: bytes | None
    subgraphs: list[Graph]
    operatorCodes: list[OperatorCode]
    signatureDefs: list[Signature]
    buffers: list[Buffer]
    metadata: list[Metadata] | None

    def Pack(self, builder: object) -> int:
        """Write it with flatbuffers' builder."""
        ...


def unpacked(data: bytes) -> Model:
    """The file as objects of the schema."""
    model: Model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    return model


def packed(model: Model, room_bytes: int = 4096) -> bytes:
    """The objects as a file. room_bytes: what the builder starts with."""
    builder = flatbuffers.Builder(room_bytes)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def quantization_of(tensor: Tensor) -> Quantization:
    """Raises ValueError for a tensor without."""
    if tensor.quantization is None:
        raise ValueError(f"tensor {tensor.name.decode('utf-8', 'replace')} is not quantized")
    return tensor.quantization


def kind_of(model: Model, operator: Operator) -> int:
    """Of schema.BuiltinOperator."""
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


def ints(vector: Iterable[int] | None) -> list[int]:
    """Of a vector that may be left out."""
    return [] if vector is None else [int(item) for item in vector]
