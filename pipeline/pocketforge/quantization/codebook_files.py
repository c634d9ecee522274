"""Clustered weights as codebooks, without loss: a codec of `model/packed_weights.py`.

A tensor of at most 256 different values (clustered weights) is stored as those values and an index for each place; any
other, and one that would not get smaller, as it was. The parts in the packed file are:

    dense:NAME               as it was
    codebook.centroids:NAME  the different values, ascending by their bits as an unsigned number: float32 as such,
                             values of another type as unsigned numbers of their size
    codebook.indices:NAME    uint8: indices of ceil(log2 entries) bits (1 or more), lowest bit first, without gaps

Indices are not entropy coded: gzip comes near to their entropy, which is reported. Needs no torch.

Method: Han, Mao & Dally 2016, "Deep Compression", weight sharing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from pocketforge.errors import ModelError, StageFailed
from pocketforge.files import read_whole, write_whole
from pocketforge.metrics import Array
from pocketforge.model.packed_weights import Codec, Packed, Unpacked, dense, open_packed, pack, unpack_file
from pocketforge.model.tensor_files import (
    BITS,
    UNSIGNED,
    Bits,
    Damaged,
    HeaderEntry,
    StoredTensor,
)
from pocketforge.outcomes import files
from pocketforge.outcomes.weights import CodebookSizes, PackedTensor

MAX_ENTRIES = 256
FILE = "weights.safetensors"  # of a quantize step's folder, beside weights.json

_HEADER_BYTES = 100  # about what an entry of a tensor takes in the header: not worth less than this


@dataclass(frozen=True, slots=True)
class Codebook:
    """A weight of few values.

    Attributes:
        indices: Into the centroids, of the weight's shape.
        centroids: The values, of shape (entries,), 1 to 256.
    """

    indices: NDArray[np.uint8]
    centroids: NDArray[np.float32]

    def values(self) -> NDArray[np.float32]:
        """The weight, of its own shape, in float32."""
        return self.centroids[self.indices]

    @property
    def bits(self) -> int:
        return bits_for(len(self.centroids))

    @property
    def packed_bytes(self) -> int:
        """Of the packed indices and the centroids, without the entries in a header."""
        return math.ceil(self.indices.size * self.bits / 8) + self.centroids.nbytes

    @property
    def entropy_bits(self) -> float:
        """Mean bits an index that an ideal entropy coder (about: Huffman) would take."""
        return entropy_bits(self.indices)


def bits_for(entries: int) -> int:
    """Bits of an index into `entries` values: 1 or more."""
    return max(1, (entries - 1).bit_length())


def entropy_bits(indices: NDArray[np.uint8]) -> float:
    """Shannon entropy of the indices, in bits an index."""
    counts = np.bincount(indices.reshape(-1))
    shares = counts[counts > 0] / max(indices.size, 1)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))  # a single value gives -0.0


def pack_bits(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Indices below 2^bits, one after another, lowest bit first."""
    spread = np.unpackbits(indices.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(spread, bitorder="little")


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The inverse of `pack_bits`: `count` indices."""
    spread = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(spread, axis=1, bitorder="little").reshape(count)


def save_codebooks(codebooks: Mapping[str, Codebook], rest: Mapping[str, Array], folder: Path) -> CodebookSizes:
    """Write weights.safetensors (packed; unpacking gives all weights, `rest` too, as a usual safetensors file) and
    weights.json, the sizes, which are also returned.
    """
    whole = save({**{name: np.asarray(array) for name, array in rest.items()},
                  **{name: np.ascontiguousarray(book.values()) for name, book in codebooks.items()}})  # fmt: skip
    packed = pack(whole, CODEC)
    (folder / FILE).write_bytes(packed.data)
    sizes = dataclasses.replace(_sizes(packed), codebooks=tuple(sorted(codebooks)))
    files.write(folder, sizes)
    return sizes


def load_codebooks(folder: Path) -> dict[str, Codebook]:
    """The codebooks that `save_codebooks` wrote; their centroids ascend. Raises ModelError for a damaged folder."""
    try:
        names = files.read(folder, CodebookSizes).codebooks
        opened = open_packed(read_whole(folder / FILE), CODEC)
        codebooks = {}
        for name in names:
            indices, values = _of_step(name, opened.entries[name], opened.parts)
            centroids = values.view(np.float32)
            order = np.argsort(centroids, kind="stable")
            rank = np.argsort(order, kind="stable").astype(np.uint8)
            codebooks[name] = Codebook(rank[indices], centroids[order])
    except (Damaged, StageFailed, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} holds no whole codebooks: {error}", "build again") from error
    return codebooks


def encode(source: Path, to: Path) -> CodebookSizes:
    """Write the safetensors file `source` with codebooks to `to`, in place of what was there. Same input, same bytes.

    Raises ModelError when `source` is missing, damaged, no safetensors file, or packed already; StoreError when `to`
    cannot be written.
    """
    packed = pack(read_whole(source), CODEC, str(source))
    write_whole(to, packed.data)
    return _sizes(packed)


def decode(source: Path, to: Path) -> Unpacked:
    """The inverse of `encode`: see `unpack_file`."""
    return unpack_file(source, to, CODEC)


def _sizes(packed: Packed[PackedTensor]) -> CodebookSizes:
    unused = sum(row.values * (row.bits - row.entropy_bits) / 8 for row in packed.rows if row.bits)
    return CodebookSizes(
        dense_bytes=packed.dense_bytes,
        codebook_bytes=len(packed.data),
        gzip_bytes=packed.gzip_bytes,
        codebook_gzip_bytes=packed.packed_gzip_bytes,
        entropy_bytes=math.ceil(len(packed.data) - unused),
        tensors=tuple(sorted(packed.rows, key=lambda row: row.name)),
    )


def _smallest(name: str, tensor: StoredTensor) -> tuple[PackedTensor, dict[str, StoredTensor]]:
    """A codebook where that is smaller, its entries in the header included."""
    size = len(tensor.data) // tensor.count if tensor.count else 0
    if size in BITS and size * tensor.count == len(tensor.data):  # not a type whose values share bytes
        values, places = np.unique(np.frombuffer(tensor.data, BITS[size]), return_inverse=True)
        if len(values) <= MAX_ENTRIES:
            indices, bits = places.astype(np.uint8), bits_for(len(values))
            packed = pack_bits(indices, bits)
            row = _row(name, tensor, packed.nbytes + values.nbytes, len(values), bits, entropy_bits(indices))
            if row.codebook_bytes + _HEADER_BYTES < len(tensor.data):
                dtype = "F32" if tensor.dtype == "F32" else UNSIGNED[size]
                return row, {
                    f"codebook.centroids:{name}": StoredTensor(dtype, values.shape, values.tobytes()),
                    f"codebook.indices:{name}": StoredTensor("U8", packed.shape, packed.tobytes()),
                }
    return _row(name, tensor, len(tensor.data)), dense(name, tensor)


def _row(
    name: str, tensor: StoredTensor, size: int, entries: int = 0, bits: int = 0, entropy: float = 0.0
) -> PackedTensor:
    return PackedTensor(
        name=name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        encoding="codebook" if entries else "dense",
        values=tensor.count,
        entries=entries,
        bits=bits,
        entropy_bits=entropy,
        dense_bytes=len(tensor.data),
        codebook_bytes=size,
    )


def _decoded(name: str, entry: HeaderEntry, parts: Mapping[str, StoredTensor]) -> bytes:
    try:
        indices, values = _indices_and_values(name, entry, parts)
    except (KeyError, ValueError, OverflowError) as error:  # numpy's, for sizes that no array has
        raise Damaged(f"{name} is missing or not whole") from error
    return bytes(values[indices].tobytes())


def _of_step(name: str, entry: HeaderEntry, parts: Mapping[str, StoredTensor]) -> tuple[NDArray[np.uint8], Bits]:
    """As `_indices_and_values`, also of a weight so small that a table would have taken more room than it."""
    if f"codebook.centroids:{name}" in parts:
        return _indices_and_values(name, entry, parts)
    values, places = np.unique(parts[f"dense:{name}"].bits(), return_inverse=True)
    if len(values) > MAX_ENTRIES:
        raise Damaged(f"{name} has {len(values)} values, more than a codebook")
    return places.astype(np.uint8).reshape(entry.shape), values


def _indices_and_values(
    name: str, entry: HeaderEntry, parts: Mapping[str, StoredTensor]
) -> tuple[NDArray[np.uint8], Bits]:
    """Indices of the tensor's shape, and the bits of the values they mean."""
    values, packed = parts[f"codebook.centroids:{name}"].bits(), parts[f"codebook.indices:{name}"].data
    entries, count = len(values), math.prod(entry.shape)
    bits = bits_for(entries)
    if len(packed) != math.ceil(count * bits / 8) or not 0 < entries <= MAX_ENTRIES:
        raise Damaged(f"the indices of {name} do not fit its shape {list(entry.shape)}")
    indices = unpack_bits(np.frombuffer(packed, np.uint8), bits, count).reshape(entry.shape)
    if int(indices.max(initial=0)) >= entries:
        raise Damaged(f"an index of {name} is beyond its {entries} values")
    return indices, values


CODEC = Codec(
    format="pocketforge-codebook",
    stored="with codebooks",
    wanted="a whole file that `pocketforge codebook pack` or a build with scheme codebook wrote",
    encode=_smallest,
    decode=_decoded,
)
