"""A weights file stored sparsely, without loss: dense safetensors → sparse safetensors, and back to the same bytes.

Each tensor takes the smallest of three encodings. The sparse file is a safetensors file itself, with these tensors:

    dense:NAME           as it was
    bitmask.mask:NAME    uint8, one bit a value, lowest bit first: 1 = not zero
    bitmask.values:NAME  the values that are not zero, in order
    csr.rows:NAME        compressed sparse rows: where each row's values begin, and their number
    csr.gaps:NAME        zeros before each value, since the value before it in its row
    csr.values:NAME      the values that are not zero, in order

A row is an index of the first dimension (a tensor of one dimension is one row); rows and gaps are in the smallest
unsigned type that holds them. Zero is what has no bit set: -0.0 and NaN are values like others and keep their bits.
The metadata holds `format`, `version`, `header` (the dense file's own, with types and shapes) and `sha256` (of the
dense file), so that what is unpacked is proven to be what was packed. Needs no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.errors import ModelError
from pocketforge.files import read_whole, write_whole

FORMAT, VERSION = "pocketforge-sparse", "1"

# Bytes a value. A type that is not here (packed ones, and those to come) is kept dense.
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_BITS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}
_INDEX_TYPES: dict[str, np.dtype[Any]] = {"U8": _BITS[1], "U16": _BITS[2], "U32": _BITS[4], "U64": _BITS[8]}

Bits = NDArray[np.unsignedinteger[Any]]


class _Damaged(Exception):
    """What is wrong with a file's content; becomes a ModelError that names the file."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def bits(self) -> Bits:
        """The values as unsigned integers, flat."""
        if self.dtype not in ITEM_BYTES:
            raise _Damaged(f"values of type {self.dtype} in a sparse tensor")
        return np.frombuffer(self.data, _BITS[ITEM_BYTES[self.dtype]])


def encode(source: Path, to: Path) -> dict[str, Any]:
    """Write the safetensors file `source` sparsely to `to`, in place of what was there. The same input, the same bytes.

    Returns sizes in bytes: dense_bytes, sparse_bytes, gzip_bytes and sparse_gzip_bytes (each at gzip's level 9); zeros
    of how many values; tensors [{name, dtype, shape, encoding, zeros, values, dense_bytes, sparse_bytes}].
    Raises ModelError when `source` is missing, damaged, no safetensors file, or sparse already; StoreError when `to`
    cannot be written.
    """
    data = read_whole(source)
    try:
        header, tensors, metadata = _parse(data)
    except _Damaged as error:
        raise ModelError(
            f"{source} is not a whole safetensors file: {error}",
            "pocketforge packs weights as safetensors.torch.save_file writes them",
        ) from error
    if metadata.get("format") == FORMAT:
        raise ModelError(f"{source} is stored sparsely already", "unpack gives the dense file back")
    parts: dict[str, _Tensor] = {}
    rows = []
    for name, tensor in tensors.items():
        encoding, chosen = _smallest(name, tensor)
        zeros = int((tensor.bits() == 0).sum()) if tensor.dtype in ITEM_BYTES else 0
        rows.append(
            {
                "name": name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "encoding": encoding,
                "zeros": zeros,
                "values": tensor.count,
                "dense_bytes": len(tensor.data),
                "sparse_bytes": sum(len(part.data) for part in chosen.values()),
            }
        )
        parts.update(chosen)
    about = {"format": FORMAT, "header": header, "sha256": hashlib.sha256(data).hexdigest(), "version": VERSION}
    packed = _serialized(parts, about)
    assert _unpacked(packed) == data
    write_whole(to, packed)
    return {
        "dense_bytes": len(data),
        "sparse_bytes": len(packed),
        "gzip_bytes": len(gzip.compress(data, 9, mtime=0)),
        "sparse_gzip_bytes": len(gzip.compress(packed, 9, mtime=0)),
        "zeros": sum(row["zeros"] for row in rows),
        "values": sum(row["values"] for row in rows),
        "tensors": rows,
    }


def decode(source: Path, to: Path) -> dict[str, Any]:
    """Write the dense file that `source` was packed from to `to`, byte for byte, in place of what was there.

    Returns dense_bytes, sparse_bytes and sha256 (of the dense file). Raises ModelError when `source` is missing, not
    made by `encode`, or damaged; StoreError when `to` cannot be written.
    """
    packed = read_whole(source)
    try:
        data = _unpacked(packed)
    except (_Damaged, MemoryError) as error:
        raise ModelError(
            f"{source} cannot be unpacked: {error or 'it would not fit into memory'}",
            "wanted a whole file that `pocketforge sparse pack` wrote",
        ) from error
    write_whole(to, data)
    return {
        "dense_bytes": len(data),
        "sparse_bytes": len(packed),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _parse(data: bytes) -> tuple[str, dict[str, _Tensor], dict[str, str]]:
    """The header's text, the tensors in the order of their data, and the metadata. Raises _Damaged."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise _Damaged(f"{len(data)} bytes do not hold its header")
    try:
        header = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Damaged("its header is no text") from error
    metadata, entries = _entries(header)
    tensors: dict[str, _Tensor] = {}
    end = 8 + length
    # Tensors lie one after another, without gaps: the header and they are the whole file. An empty one comes first.
    for name, (dtype, shape, offsets) in sorted(entries.items(), key=lambda entry: (entry[1][2], entry[0])):
        if offsets[0] + 8 + length != end or offsets[1] + 8 + length > len(data) or offsets[1] < offsets[0]:
            raise _Damaged(f"the data of {name} are not where they belong")
        end = offsets[1] + 8 + length
        size = ITEM_BYTES.get(dtype)
        if size is not None and offsets[1] - offsets[0] != math.prod(shape) * size:
            raise _Damaged(f"{name} has {offsets[1] - offsets[0]} bytes, {dtype} {list(shape)} needs another number")
        tensors[name] = _Tensor(dtype, shape, data[end - (offsets[1] - offsets[0]) : end])
    if end != len(data):
        raise _Damaged(f"{len(data) - end} bytes belong to no tensor")
    return header, tensors, metadata


def _entries(header: str) -> tuple[dict[str, str], dict[str, tuple[str, tuple[int, ...], tuple[int, int]]]]:
    """The metadata, and type, shape and offsets of each tensor. Raises _Damaged."""
    try:
        content = json.loads(header)
        metadata = content.pop("__metadata__", None) or {}
        entries = {}
        for name, entry in content.items():
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            if not isinstance(entry["dtype"], str) or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError(f"the entry of {name} is no type, shape and offsets")
            entries[name] = (entry["dtype"], tuple(shape), (begin, end))
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Damaged(f"its header is broken ({error})") from error
    return metadata, entries


def _serialized(parts: Mapping[str, _Tensor], metadata: Mapping[str, str]) -> bytes:
    # The widest types first, as safetensors does: each tensor then lies at a multiple of its own item's size.
    order = sorted(parts, key=lambda name: (-ITEM_BYTES.get(parts[name].dtype, 0), name))
    content: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        content[name] = _entry(parts[name], end)
        end += len(parts[name].data)
    header = json.dumps(content, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *(parts[name].data for name in order)])


def _entry(part: _Tensor, begin: int) -> dict[str, Any]:
    return {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [begin, begin + len(part.data)]}


def _smallest(name: str, tensor: _Tensor) -> tuple[str, dict[str, _Tensor]]:
    """The encoding that takes the fewest bytes, header entries included; of equal ones the simpler."""
    candidates = {"dense": {f"dense:{name}": tensor}}
    if tensor.dtype in ITEM_BYTES and tensor.data:
        bits = tensor.bits()
        kept = np.flatnonzero(bits)
        values = _Tensor(tensor.dtype, (len(kept),), bits[kept].tobytes())
        mask = np.packbits(bits != 0, bitorder="little")
        candidates["bitmask"] = {f"bitmask.mask:{name}": _index(mask), f"bitmask.values:{name}": values}
        rows, gaps = _compressed_rows(kept, *_rows_and_columns(tensor.shape))
        candidates["csr"] = {
            f"csr.rows:{name}": _index(rows),
            f"csr.gaps:{name}": _index(gaps),
            f"csr.values:{name}": values,
        }

    def size(encoding: str) -> int:
        parts = candidates[encoding]
        return sum(len(part.data) + len(json.dumps({name: _entry(part, 0)})) for name, part in parts.items())

    encoding = min(candidates, key=size)
    return encoding, candidates[encoding]


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


def _index(values: Bits) -> _Tensor:
    """In the smallest unsigned type that holds them."""
    most = int(values.max()) if len(values) else 0
    name = next(name for name, kind in _INDEX_TYPES.items() if most <= np.iinfo(kind).max)
    return _Tensor(name, (len(values),), values.astype(_INDEX_TYPES[name]).tobytes())


def _unpacked(packed: bytes) -> bytes:
    """The dense file. Raises _Damaged."""
    _, parts, metadata = _parse(packed)
    if metadata.get("format") != FORMAT:
        raise _Damaged("it is not stored sparsely" if metadata.get("format") is None else "it has another format")
    if metadata.get("version") != VERSION:
        raise _Damaged(f"it has version {metadata.get('version')}, this Pocketforge reads version {VERSION}")
    if "header" not in metadata or "sha256" not in metadata:
        raise _Damaged("its metadata lack the header or the hash of the dense file")
    _, entries = _entries(metadata["header"])
    header = metadata["header"].encode("utf-8", "replace")  # a damaged one: the hash will tell
    pieces = [len(header).to_bytes(8, "little"), header]
    for name, (dtype, shape, _) in sorted(entries.items(), key=lambda entry: (entry[1][2], entry[0])):
        pieces.append(_decoded(name, dtype, shape, parts))
    data = b"".join(pieces)
    if hashlib.sha256(data).hexdigest() != metadata["sha256"]:
        raise _Damaged("it is damaged: what was unpacked is not what was packed (SHA-256)")
    return data


def _decoded(name: str, dtype: str, shape: tuple[int, ...], parts: Mapping[str, _Tensor]) -> bytes:
    if f"dense:{name}" in parts:
        return parts[f"dense:{name}"].data
    if dtype not in ITEM_BYTES:
        raise _Damaged(f"{name} is missing")
    count = math.prod(shape)
    try:
        if f"bitmask.mask:{name}" in parts:
            values = parts[f"bitmask.values:{name}"].bits()
            mask = parts[f"bitmask.mask:{name}"].bits()
            if len(mask) != -(-count // 8):
                raise _Damaged(f"the mask of {name} has another size")
            where = np.flatnonzero(np.unpackbits(mask.astype(np.uint8), count=count, bitorder="little"))
        else:
            values = parts[f"csr.values:{name}"].bits()
            rows = parts[f"csr.rows:{name}"].bits().astype(np.int64)
            gaps = parts[f"csr.gaps:{name}"].bits().astype(np.int64)
            where = _positions(rows, gaps, *_rows_and_columns(shape), name)
        if len(where) != len(values) or (len(where) and not 0 <= where.min() <= where.max() < count):
            raise _Damaged(f"the values of {name} do not fit its shape {list(shape)}")
        dense: Bits = np.zeros(count, _BITS[ITEM_BYTES[dtype]])
    except (KeyError, ValueError, OverflowError) as error:  # numpy's, for sizes that no array has
        raise _Damaged(f"{name} is missing or not whole") from error
    dense[where] = values
    return bytes(dense.tobytes())


def _positions(
    pointers: NDArray[np.int64], gaps: NDArray[np.int64], rows: int, columns: int, name: str
) -> NDArray[np.int64]:
    """The flat indices of the values; the inverse of `_compressed_rows`."""
    counts = np.diff(pointers)
    if len(pointers) != rows + 1 or pointers[0] != 0 or pointers[-1] != len(gaps) or (counts < 0).any():
        raise _Damaged(f"the rows of {name} are broken")
    # Steps from value to value run on through the whole tensor; what the rows before took is subtracted.
    steps = np.cumsum(gaps + 1)
    at_start = np.concatenate([np.zeros(1, np.int64), steps])[pointers[:-1]]
    return np.repeat(np.arange(rows) * columns - at_start, counts) + steps - 1
