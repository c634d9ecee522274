"""Pruned weights without their zeros, without loss: a codec of `model/packed_weights.py`.

Each tensor takes the smallest of three encodings, whose parts in the packed file are:

    dense:NAME           as it was
    bitmask.mask:NAME    uint8, one bit a value, lowest bit first: 1 = not zero
    bitmask.values:NAME  the values that are not zero, in order
    csr.rows:NAME        compressed sparse rows: where each row's values begin, and their number
    csr.gaps:NAME        zeros before each value, since the value before it in its row
    csr.values:NAME      the values that are not zero, in order

A row is an index of the first dimension (a tensor of one dimension is one row); rows and gaps are in the smallest
unsigned type that holds them. Zero is what has no bit set: -0.0 and NaN are values like others and keep their bits.
Needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketforge.files import read_whole, write_whole
from pocketforge.model.packed_weights import Codec, Unpacked, dense, pack, unpack_file
from pocketforge.model.tensor_files import (
    BITS,
    ITEM_BYTES,
    UNSIGNED,
    Bits,
    Damaged,
    HeaderEntry,
    StoredTensor,
    header_entry,
)


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """How a sparse file holds one tensor.

    Attributes:
        name: Of the tensor.
        dtype: As safetensors names it.
        shape: Of the tensor.
        encoding: "dense", "bitmask" or "csr".
        zeros: How many of its values have no bit set.
        values: How many it has.
        dense_bytes: As it was.
        sparse_bytes: As it is stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    zeros: int
    values: int
    dense_bytes: int
    sparse_bytes: int


@dataclass(frozen=True, slots=True)
class SparseSizes:
    """What storing a file sparsely gave, in bytes.

    Attributes:
        dense_bytes: The file as it was.
        sparse_bytes: The sparse file.
        gzip_bytes: The file as it was, at gzip's level 9.
        sparse_gzip_bytes: The sparse file, at gzip's level 9.
        zeros: How many values of all tensors have no bit set.
        values: How many there are.
        tensors: In the order of their data.
    """

    dense_bytes: int
    sparse_bytes: int
    gzip_bytes: int
    sparse_gzip_bytes: int
    zeros: int
    values: int
    tensors: tuple[SparseTensor, ...]


def encode(source: Path, to: Path) -> SparseSizes:
    """Write the safetensors file `source` sparsely to `to`, in place of what was there. The same input, the same bytes.

    Raises ModelError when `source` is missing, damaged, no safetensors file, or sparse already; StoreError when `to`
    cannot be written.
    """
    packed = pack(read_whole(source), CODEC, str(source))
    write_whole(to, packed.data)
    return SparseSizes(
        dense_bytes=packed.dense_bytes,
        sparse_bytes=len(packed.data),
        gzip_bytes=packed.gzip_bytes,
        sparse_gzip_bytes=packed.packed_gzip_bytes,
        zeros=sum(row.zeros for row in packed.rows),
        values=sum(row.values for row in packed.rows),
        tensors=packed.rows,
    )


def decode(source: Path, to: Path) -> Unpacked:
    """The inverse of `encode`: see `unpack_file`."""
    return unpack_file(source, to, CODEC)


def _smallest(name: str, tensor: StoredTensor) -> tuple[SparseTensor, dict[str, StoredTensor]]:
    """The encoding that takes the fewest bytes, header entries included; of equal ones the simpler."""
    candidates = {"dense": dense(name, tensor)}
    zeros = 0
    if tensor.dtype in ITEM_BYTES and tensor.data:
        bits = tensor.bits()
        places = np.flatnonzero(bits)
        zeros = tensor.count - len(places)
        values = StoredTensor(tensor.dtype, (len(places),), bits[places].tobytes())
        mask = np.packbits(bits != 0, bitorder="little")
        candidates["bitmask"] = {f"bitmask.mask:{name}": _index(mask), f"bitmask.values:{name}": values}
        rows, gaps = _compressed_rows(places, *_rows_and_columns(tensor.shape))
        candidates["csr"] = {
            f"csr.rows:{name}": _index(rows),
            f"csr.gaps:{name}": _index(gaps),
            f"csr.values:{name}": values,
        }

    def size(encoding: str) -> int:
        parts = candidates[encoding]
        return sum(len(part.data) + len(json.dumps({name: header_entry(part)})) for name, part in parts.items())

    encoding = min(candidates, key=size)
    parts = candidates[encoding]
    row = SparseTensor(
        name=name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        encoding=encoding,
        zeros=zeros,
        values=tensor.count,
        dense_bytes=len(tensor.data),
        sparse_bytes=sum(len(part.data) for part in parts.values()),
    )
    return row, parts


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _compressed_rows(kept: NDArray[np.intp], rows: int, columns: int) -> tuple[Bits, Bits]:
    """Where each row begins among the kept values (rows + 1), and the zeros before each value. kept: flat indices."""
    pointers = np.searchsorted(kept, np.arange(rows + 1, dtype=np.int64) * columns)
    before = np.empty_like(kept)
    before[:1] = -1
    before[1:] = kept[:-1]
    row_start = kept // columns * columns
    gaps = kept - np.maximum(before + 1, row_start)
    return pointers.astype(np.uint64), gaps.astype(np.uint64)


def _index(values: Bits) -> StoredTensor:
    """In the smallest unsigned type that holds them."""
    most = int(values.max()) if len(values) else 0
    size = next(size for size, kind in BITS.items() if most <= np.iinfo(kind).max)
    return StoredTensor(UNSIGNED[size], (len(values),), values.astype(BITS[size]).tobytes())


def _decoded(name: str, entry: HeaderEntry, parts: Mapping[str, StoredTensor]) -> bytes:
    dtype, shape, _ = entry
    if dtype not in ITEM_BYTES:
        raise Damaged(f"{name} is missing")
    count = math.prod(shape)
    try:
        if f"bitmask.mask:{name}" in parts:
            values = parts[f"bitmask.values:{name}"].bits()
            mask = parts[f"bitmask.mask:{name}"].bits()
            if len(mask) != -(-count // 8):
                raise Damaged(f"the mask of {name} has another size")
            where = np.flatnonzero(np.unpackbits(mask.astype(np.uint8), count=count, bitorder="little"))
        else:
            values = parts[f"csr.values:{name}"].bits()
            rows = parts[f"csr.rows:{name}"].bits().astype(np.int64)
            gaps = parts[f"csr.gaps:{name}"].bits().astype(np.int64)
            where = _positions(rows, gaps, *_rows_and_columns(shape), name)
        if len(where) != len(values) or (len(where) and not 0 <= where.min() <= where.max() < count):
            raise Damaged(f"the values of {name} do not fit its shape {list(shape)}")
        whole: Bits = np.zeros(count, BITS[ITEM_BYTES[dtype]])
    except (KeyError, ValueError, OverflowError) as error:  # numpy's, for sizes that no array has
        raise Damaged(f"{name} is missing or not whole") from error
    whole[where] = values
    return bytes(whole.tobytes())


def _positions(
    pointers: NDArray[np.int64], gaps: NDArray[np.int64], rows: int, columns: int, name: str
) -> NDArray[np.int64]:
    """The flat indices of the values; the inverse of `_compressed_rows`."""
    counts = np.diff(pointers)
    if len(pointers) != rows + 1 or pointers[0] != 0 or pointers[-1] != len(gaps) or (counts < 0).any():
        raise Damaged(f"the rows of {name} are broken")
    # Steps from value to value run on through the whole tensor; what the rows before took is subtracted.
    steps = np.cumsum(gaps + 1)
    at_start = np.concatenate([np.zeros(1, np.int64), steps])[pointers[:-1]]
    return np.repeat(np.arange(rows) * columns - at_start, counts) + steps - 1


CODEC = Codec(
    format="pocketforge-sparse",
    stored="sparsely",
    wanted="a whole file that `pocketforge sparse pack` wrote",
    encode=_smallest,
    decode=_decoded,
)
