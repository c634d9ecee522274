"""A weights file with codebooks, without loss: dense safetensors → packed safetensors, and back to the same bytes.

A tensor of at most 256 different values (clustered weights) is stored as those values and an index for each place; any
other, and one that would not get smaller, as it was. The packed file is a safetensors file itself:

    dense:NAME               its bytes, as uint8
    codebook.centroids:NAME  the different values, ascending by their bits as an unsigned number: float32 as such,
                             values of another type as unsigned numbers of their size
    codebook.indices:NAME    uint8: indices of ceil(log2 entries) bits (1 or more), lowest bit first, without gaps

Its metadata hold one key, `pocketforge-codebook`: JSON of `version`, `header` (the dense file's own, with types and
shapes) and `sha256` (of the dense file), so that what is unpacked is proven to be what was packed. Indices are not
entropy coded: gzip comes near to their entropy, which is reported. Needs no torch.

Method: Han, Mao & Dally 2016, "Deep Compression", weight sharing.
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
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from pocketforge.errors import ModelError
from pocketforge.files import read_whole, write_whole

FORMAT, VERSION = "pocketforge-codebook", 1
MAX_ENTRIES = 256
# Of a quantize step's folder.
FILE, INDEX = "weights.safetensors", "weights.json"

_BITS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}
_HEADER_BYTES = 100  # about what an entry of a tensor takes in the header: not worth less than this


class _Damaged(Exception):
    """What is wrong with a file's content; becomes a ModelError that names the file."""


@dataclass(frozen=True, slots=True)
class Codebook:
    """A weight of few values. indices: uint8, of the weight's shape; centroids: float32 (entries,), 1 to 256."""

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


def save_codebooks(codebooks: Mapping[str, Codebook], rest: Mapping[str, NDArray[Any]], folder: Path) -> dict[str, Any]:
    """Write weights.safetensors (packed; unpacking gives all weights, `rest` too, as a usual safetensors file) and
    weights.json, the sizes, which are also returned (see `encode`; `codebooks` names those that were clustered).
    """
    dense = save({**{name: np.asarray(array) for name, array in rest.items()},
                  **{name: np.ascontiguousarray(book.values()) for name, book in codebooks.items()}})  # fmt: skip
    packed, sizes = _packed(dense)
    (folder / FILE).write_bytes(packed)
    summary = {**sizes, "codebooks": sorted(codebooks)}
    (folder / INDEX).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", "utf-8")
    return summary


def load_codebooks(folder: Path) -> dict[str, Codebook]:
    """The codebooks that `save_codebooks` wrote; their centroids ascend. Raises ModelError for a damaged folder."""
    try:
        names = json.loads((folder / INDEX).read_text("utf-8"))["codebooks"]
        header, parts, _ = _opened(read_whole(folder / FILE))
        found = {}
        for name in names:
            entry = header[name]
            book = Codebook(*_codebook(name, entry["dtype"], entry["shape"], parts))
            order = np.argsort(book.centroids, kind="stable")
            rank = np.argsort(order, kind="stable").astype(np.uint8)
            found[name] = Codebook(rank[book.indices], book.centroids[order])
    except (_Damaged, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no whole codebooks: {error}", "build again") from error
    return found


def encode(source: Path, to: Path) -> dict[str, Any]:
    """Write the safetensors file `source` with codebooks to `to`, in place of what was there. Same input, same bytes.

    Returns sizes in bytes: dense_bytes, codebook_bytes, gzip_bytes and codebook_gzip_bytes (each at gzip's level 9),
    entropy_bytes (of the codebook file if its indices took their entropy: what Huffman coding could reach); tensors
    [{name, dtype, shape, encoding, values, entries, bits, entropy_bits, dense_bytes, codebook_bytes}].
    Raises ModelError when `source` is missing, damaged, no safetensors file, or packed already; StoreError when `to`
    cannot be written.
    """
    packed, sizes = _packed(read_whole(source), str(source))
    write_whole(to, packed)
    return sizes


def decode(source: Path, to: Path) -> dict[str, Any]:
    """Write the dense file that `source` was packed from to `to`, byte for byte, in place of what was there.

    Returns dense_bytes, codebook_bytes and sha256 (of the dense file). Raises ModelError when `source` is missing, not
    made by `encode`, or damaged; StoreError when `to` cannot be written.
    """
    packed = read_whole(source)
    try:
        data = _unpacked(packed)
    except (_Damaged, MemoryError) as error:
        raise ModelError(
            f"{source} cannot be unpacked: {error or 'it would not fit into memory'}",
            "wanted a whole file that `pocketforge codebook pack` or a build with scheme codebook wrote",
        ) from error
    write_whole(to, data)
    return {"dense_bytes": len(data), "codebook_bytes": len(packed), "sha256": hashlib.sha256(data).hexdigest()}


def _packed(data: bytes, name: str = "the weights") -> tuple[bytes, dict[str, Any]]:
    try:
        header, text, metadata = _header(data)
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except (SafetensorError, _Damaged) as error:
        raise ModelError(
            f"{name} is not a whole safetensors file: {error}",
            "pocketforge packs weights as safetensors.torch.save_file writes them",
        ) from error
    if FORMAT in metadata:
        raise ModelError(f"{name} is stored with codebooks already", "unpack gives the dense file back")
    parts: dict[str, NDArray[Any]] = {}
    rows = []
    for key in sorted(header):
        row, chosen = _smallest(key, tensors[key])
        rows.append(row)
        parts.update(chosen)
    # One key only: safetensors writes several in any order.
    about = {"header": text, "sha256": hashlib.sha256(data).hexdigest(), "version": VERSION}
    packed = save(parts, {FORMAT: json.dumps(about, sort_keys=True)})
    if _unpacked(packed) != data:
        raise ModelError(f"{name} would not come back as it is", "write it again with safetensors.torch.save_file")
    wasted = sum(row["values"] * (row["bits"] - row["entropy_bits"]) / 8 for row in rows if row["bits"])
    return packed, {
        "dense_bytes": len(data),
        "codebook_bytes": len(packed),
        "gzip_bytes": len(gzip.compress(data, 9, mtime=0)),
        "codebook_gzip_bytes": len(gzip.compress(packed, 9, mtime=0)),
        "entropy_bytes": math.ceil(len(packed) - wasted),
        "tensors": rows,
    }


def _smallest(name: str, tensor: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What is said of a tensor, and the parts that hold it."""
    data, dtype, shape = bytes(tensor["data"]), tensor["dtype"], list(tensor["shape"])
    count = math.prod(shape)
    row = {"name": name, "dtype": dtype, "shape": shape, "encoding": "dense", "values": count, "entries": 0, "bits": 0,
           "entropy_bits": 0.0, "dense_bytes": len(data), "codebook_bytes": len(data)}  # fmt: skip
    size = len(data) // count if count else 0
    if size in _BITS and size * count == len(data):  # not a type whose values share bytes
        values, indices = np.unique(np.frombuffer(data, _BITS[size]), return_inverse=True)
        if len(values) <= MAX_ENTRIES:
            bits = bits_for(len(values))
            packed = pack_bits(indices.astype(np.uint8), bits)
            total = packed.nbytes + values.nbytes
            if total + _HEADER_BYTES < len(data):
                row |= {"encoding": "codebook", "entries": len(values), "bits": bits, "codebook_bytes": total,
                        "entropy_bits": entropy_bits(indices.astype(np.uint8))}  # fmt: skip
                centroids = values.view("<f4") if dtype == "F32" else values
                return row, {f"codebook.centroids:{name}": centroids, f"codebook.indices:{name}": packed}
    return row, {f"dense:{name}": np.frombuffer(data, np.uint8)}


def _header(data: bytes) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Entries by tensor name, the header's text, the metadata. Raises _Damaged."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise _Damaged(f"{len(data)} bytes do not hold its header")
    try:
        text = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Damaged("its header is no text") from error
    entries, metadata = _entries(text)
    return entries, text, metadata


def _entries(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        content = json.loads(text)
        metadata = content.pop("__metadata__", None) or {}
        for entry in content.values():
            entry["dtype"], entry["shape"], entry["data_offsets"][1]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _Damaged(f"its header is broken ({error})") from error
    return content, metadata


def _opened(packed: bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The dense file's entries, the parts, and what the metadata say. Raises _Damaged."""
    _, _, metadata = _header(packed)
    if FORMAT not in metadata:
        raise _Damaged("it is not stored with codebooks")
    try:
        parts = dict(deserialize(packed))  # type: ignore[no-untyped-call]
        about = json.loads(metadata[FORMAT])
        version, text, _ = about["version"], about["header"], about["sha256"]
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _Damaged(f"it is not whole ({error})") from error
    if version != VERSION:
        raise _Damaged(f"it has version {version}, this Pocketforge reads version {VERSION}")
    return _entries(text)[0], parts, about


def _unpacked(packed: bytes) -> bytes:
    """The dense file. Raises _Damaged."""
    entries, parts, about = _opened(packed)
    header = about["header"].encode("utf-8", "replace")  # a damaged one: the hash will tell
    pieces = [len(header).to_bytes(8, "little"), header]
    try:
        for name, entry in sorted(entries.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
            if f"dense:{name}" in parts:
                pieces.append(bytes(parts[f"dense:{name}"]["data"]))
            else:
                indices, values = _codebook(name, entry["dtype"], entry["shape"], parts)
                pieces.append(values[indices].tobytes())
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:  # sizes that no array has, too
        raise _Damaged(f"{error} is missing or not whole") from error
    data = b"".join(pieces)
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise _Damaged("it is damaged: what was unpacked is not what was packed (SHA-256)")
    return data


def _codebook(name: str, dtype: str, shape: list[int], parts: Mapping[str, Any]) -> tuple[NDArray[np.uint8], Any]:
    """Indices of the tensor's shape, and the values they mean (float32 as such, other types as their bits)."""
    values, packed = parts[f"codebook.centroids:{name}"], parts[f"codebook.indices:{name}"]
    entries, count = values["shape"][0], math.prod(shape)
    bits = bits_for(entries)
    if len(packed["data"]) != math.ceil(count * bits / 8) or not 0 < entries <= MAX_ENTRIES:
        raise _Damaged(f"the indices of {name} do not fit its shape {shape}")
    indices = unpack_bits(np.frombuffer(packed["data"], np.uint8), bits, count).reshape(shape)
    if int(indices.max(initial=0)) >= entries:
        raise _Damaged(f"an index of {name} is beyond its {entries} values")
    kind = np.dtype("<f4") if dtype == "F32" else _BITS[len(values["data"]) // entries]
    return indices, np.frombuffer(values["data"], kind)
