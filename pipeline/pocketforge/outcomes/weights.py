"""weights.json: the form in which a quantize step stores weights, beside weights.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class StoredForm:
    """How a weight's levels make its values, as `quantization.encodings.Encoding`.

    Attributes:
        bits: Of a level.
        axis: Of the output channels.
        group_size: So many inputs of a channel share a scale; 0: all do.
    """

    bits: int
    axis: int
    group_size: int


@dataclass(frozen=True, slots=True)
class StoredForms:
    """weights.json of a weight-only scheme, beside the levels and scales in weights.safetensors.

    Attributes:
        weights: Parameter name → its form.
    """

    FILE: ClassVar[str] = "weights.json"

    weights: Mapping[str, StoredForm]


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """How a file with codebooks holds one tensor.

    Attributes:
        name: Of the tensor.
        dtype: As safetensors names it.
        shape: Of the tensor.
        encoding: "dense" or "codebook".
        values: How many it has.
        entries: Different values; 0 where dense.
        bits: Of an index; 0 where dense.
        entropy_bits: Mean bits an index that an ideal entropy coder would take; 0 where dense.
        dense_bytes: As it was.
        codebook_bytes: As it is stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    values: int
    entries: int
    bits: int
    entropy_bits: float
    dense_bytes: int
    codebook_bytes: int


@dataclass(frozen=True, slots=True)
class CodebookSizes:
    """What a file with codebooks takes, in bytes. weights.json holds it beside one of a build.

    Attributes:
        dense_bytes: The file as it was.
        codebook_bytes: The file with codebooks.
        gzip_bytes: The file as it was, at gzip's level 9.
        codebook_gzip_bytes: The file with codebooks, at gzip's level 9.
        entropy_bytes: The file with codebooks if its indices took their entropy: what Huffman coding could reach.
        tensors: By name.
        codebooks: Names of the weights that were clustered; () for a file that was packed as it came, where any tensor
            of few values has a codebook.
    """

    FILE: ClassVar[str] = "weights.json"
    OMIT_UNSET: ClassVar[bool] = True

    dense_bytes: int
    codebook_bytes: int
    gzip_bytes: int
    codebook_gzip_bytes: int
    entropy_bytes: int
    tensors: tuple[PackedTensor, ...]
    codebooks: tuple[str, ...] = ()
