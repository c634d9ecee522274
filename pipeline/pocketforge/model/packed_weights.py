"""A weights file stored smaller without loss: dense safetensors → packed safetensors, and back to the same bytes.

How a tensor is stored is a codec's affair: `pruning.sparse_storage` leaves out zeros, `quantization.codebook_files`
keeps few values and indices into them. The packed file is a safetensors file itself: a tensor that gets no smaller is
`dense:NAME`, as it was; any other is the codec's own parts, whose names end in `:NAME`. Its metadata hold `format` (the
codec's), `version`, `header` (the dense file's own, with types and shapes) and `sha256` (of the dense file), so that
what is unpacked is proven to be what was packed. Needs no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pocketforge.errors import ModelError
from pocketforge.files import read_whole, write_whole

VERSION = "1"
# Bytes a value. A type that is not here is packed, or one of those to come.
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
BITS: dict[int, np.dtype[np.unsignedinteger[Any]]] = {
    1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8"),
}  # fmt: skip
# The name of an unsigned number of so many bytes.
UNSIGNED = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}
Bits = NDArray[np.unsignedinteger[Any]]
# What a codec says of a tensor.
Row = TypeVar("Row")


class Damaged(Exception):
    """What is wrong with a file's content; becomes a ModelError that names the file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a file holds it.

    Attributes:
        dtype: As safetensors names it.
        shape: Of the tensor.
        data: Its bytes, little endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def bits(self) -> Bits:
        """The values as unsigned integers, flat."""
        if self.dtype not in ITEM_BYTES:
            raise Damaged(f"values of type {self.dtype} where whole bytes are wanted")
        return np.frombuffer(self.data, BITS[ITEM_BYTES[self.dtype]])


class Entry(NamedTuple):
    """A tensor's entry in a header. offsets: of its first byte and behind its last, in the data."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Codec(Generic[Row]):
    """One way to store tensors smaller.

    Attributes:
        format: What a file's metadata call it.
        stored: How tensors are stored so, for messages: "it is not stored …".
        wanted: Which files can be unpacked, for messages.
        encode: (name, tensor) → what is said of it, and the parts that hold it; `dense` where nothing is smaller.
        decode: (name, its entry, all parts) → its bytes, of a tensor that is not dense. Raises Damaged.
    """

    format: str
    stored: str
    wanted: str
    encode: Callable[[str, Tensor], tuple[Row, dict[str, Tensor]]]
    decode: Callable[[str, Entry, Mapping[str, Tensor]], bytes]


@dataclass(frozen=True, slots=True)
class Packed(Generic[Row]):
    """A packed file, and what is to be said of it.

    Attributes:
        data: The file.
        dense_bytes: Size of the file as it was.
        gzip_bytes: Of the file as it was, at gzip's level 9.
        packed_gzip_bytes: Of the packed file, at gzip's level 9.
        rows: What the codec says of each tensor, in the order of their data.
    """

    data: bytes
    dense_bytes: int
    gzip_bytes: int
    packed_gzip_bytes: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What unpacking gave.

    Attributes:
        dense_bytes: Size of the dense file.
        packed_bytes: Size of the packed file.
        sha256: Of the dense file.
    """

    dense_bytes: int
    packed_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A packed file, read but not put together.

    Attributes:
        header: The dense file's own.
        entries: Of the dense file, by tensor name.
        parts: The packed file's tensors.
        sha256: Of the dense file.
    """

    header: str
    entries: Mapping[str, Entry]
    parts: Mapping[str, Tensor]
    sha256: str


def dense(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The part that holds a tensor as it was."""
    return {f"dense:{name}": tensor}


def pack(data: bytes, codec: Codec[Row], name: str = "the weights") -> Packed[Row]:
    """A safetensors file as `codec` stores it. The same input gives the same bytes. name: of the file, for messages.

    Raises ModelError when it is damaged, no safetensors file, or packed so already.
    """
    try:
        header, tensors, metadata = _parse(data)
    except Damaged as error:
        raise ModelError(
            f"{name} is not a whole safetensors file: {error}",
            "pocketforge packs weights as safetensors.torch.save_file writes them",
        ) from error
    if codec.format in (metadata.get("format"), *metadata):
        raise ModelError(f"{name} is stored {codec.stored} already", "unpack gives the dense file back")
    parts: dict[str, Tensor] = {}
    rows = []
    for key, tensor in tensors.items():
        row, chosen = codec.encode(key, tensor)
        rows.append(row)
        parts.update(chosen)
    sha256 = hashlib.sha256(data).hexdigest()
    packed = _serialized(parts, {"format": codec.format, "header": header, "sha256": sha256, "version": VERSION})
    if unpack(packed, codec) != data:
        raise ModelError(f"{name} would not come back as it is", "write it again with safetensors.torch.save_file")
    return Packed(packed, len(data), _gzip_bytes(data), _gzip_bytes(packed), tuple(rows))


def _gzip_bytes(data: bytes) -> int:
    return len(gzip.compress(data, 9, mtime=0))


def unpack(packed: bytes, codec: Codec[Any]) -> bytes:
    """The dense file. Raises Damaged."""
    opened = open_packed(packed, codec)
    header = opened.header.encode("utf-8", "replace")  # a damaged one: the hash will tell
    pieces = [len(header).to_bytes(8, "little"), header]
    for name, entry in _by_place(opened.entries.items()):
        part = opened.parts.get(f"dense:{name}")
        pieces.append(part.data if part is not None else codec.decode(name, entry, opened.parts))
    data = b"".join(pieces)
    if hashlib.sha256(data).hexdigest() != opened.sha256:
        raise Damaged("it is damaged: what was unpacked is not what was packed (SHA-256)")
    return data


def unpack_file(source: Path, to: Path, codec: Codec[Any]) -> Unpacked:
    """Write the dense file that `source` was packed from to `to`, byte for byte, in place of what was there.

    Raises ModelError when `source` is missing, not packed so, or damaged; StoreError when `to` cannot be written.
    """
    packed = read_whole(source)
    try:
        data = unpack(packed, codec)
    except (Damaged, MemoryError) as error:
        raise ModelError(
            f"{source} cannot be unpacked: {error or 'it would not fit into memory'}", f"wanted {codec.wanted}"
        ) from error
    write_whole(to, data)
    return Unpacked(len(data), len(packed), hashlib.sha256(data).hexdigest())


def open_packed(packed: bytes, codec: Codec[Any]) -> Opened:
    """What a packed file holds. Raises Damaged."""
    _, parts, metadata = _parse(packed)
    if codec.format in metadata:  # codebooks of before version 1 was everyone's: all of it under that key
        try:
            about = dict(json.loads(metadata[codec.format]))
        except (ValueError, TypeError, RecursionError) as error:
            raise Damaged(f"it is not whole ({error})") from error
        metadata = {key: str(value) for key, value in about.items()} | {"format": codec.format}
    if metadata.get("format") != codec.format:
        other = ": it has another format" if "format" in metadata else ""
        raise Damaged(f"it is not stored {codec.stored}{other}")
    if metadata.get("version") != VERSION:
        raise Damaged(f"it has version {metadata.get('version')}, this Pocketforge reads version {VERSION}")
    if "header" not in metadata or "sha256" not in metadata:
        raise Damaged("its metadata lack the header or the hash of the dense file")
    _, entries = _entries(metadata["header"])
    return Opened(metadata["header"], entries, parts, metadata["sha256"])


def _by_place(entries: Iterable[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """In the order of their data. An empty one comes first."""
    return sorted(entries, key=lambda item: (item[1].offsets, item[0]))


def _parse(data: bytes) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """The header's text, the tensors in the order of their data, and the metadata. Raises Damaged."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise Damaged(f"{len(data)} bytes do not hold its header")
    try:
        header = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged("its header is no text") from error
    metadata, entries = _entries(header)
    tensors: dict[str, Tensor] = {}
    end = 8 + length
    # Tensors lie one after another, without gaps: the header and they are the whole file.
    for name, (dtype, shape, offsets) in _by_place(entries.items()):
        if offsets[0] + 8 + length != end or offsets[1] + 8 + length > len(data) or offsets[1] < offsets[0]:
            raise Damaged(f"the data of {name} are not where they belong")
        end = offsets[1] + 8 + length
        size = ITEM_BYTES.get(dtype)
        if size is not None and offsets[1] - offsets[0] != math.prod(shape) * size:
            raise Damaged(f"{name} has {offsets[1] - offsets[0]} bytes, {dtype} {list(shape)} needs another number")
        tensors[name] = Tensor(dtype, shape, data[end - (offsets[1] - offsets[0]) : end])
    if end != len(data):
        raise Damaged(f"{len(data) - end} bytes belong to no tensor")
    return header, tensors, metadata


def _entries(header: str) -> tuple[dict[str, str], dict[str, Entry]]:
    """The metadata, and type, shape and offsets of each tensor. Raises Damaged."""
    try:
        content = json.loads(header)
        metadata = content.pop("__metadata__", None) or {}
        entries = {}
        for name, entry in content.items():
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            if not isinstance(entry["dtype"], str) or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError(f"the entry of {name} is no type, shape and offsets")
            entries[name] = Entry(entry["dtype"], tuple(shape), (begin, end))
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"its header is broken ({error})") from error
    return metadata, entries


def _serialized(parts: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    # The widest types first, as safetensors does: each tensor then lies at a multiple of its own item's size.
    order = sorted(parts, key=lambda name: (-ITEM_BYTES.get(parts[name].dtype, 0), name))
    content: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        content[name] = header_entry(parts[name], end)
        end += len(parts[name].data)
    header = json.dumps(content, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *(parts[name].data for name in order)])


def header_entry(part: Tensor, begin: int = 0) -> dict[str, object]:
    """A tensor's entry in a header. begin: where its data do."""
    return {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [begin, begin + len(part.data)]}
