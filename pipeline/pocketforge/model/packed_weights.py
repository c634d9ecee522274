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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pocketforge.errors import ModelError
from pocketforge.files import read_whole, write_whole
from pocketforge.model.tensor_files import Damaged, HeaderEntry, StoredTensor, by_place, parse, parse_header, serialize

VERSION = "1"
# What a codec says of a tensor.
TensorRow = TypeVar("TensorRow", covariant=True)


@dataclass(frozen=True, slots=True)
class Codec(Generic[TensorRow]):
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
    encode: Callable[[str, StoredTensor], tuple[TensorRow, dict[str, StoredTensor]]]
    decode: Callable[[str, HeaderEntry, Mapping[str, StoredTensor]], bytes]


@dataclass(frozen=True, slots=True)
class Packed(Generic[TensorRow]):
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
    rows: tuple[TensorRow, ...]


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
    entries: Mapping[str, HeaderEntry]
    parts: Mapping[str, StoredTensor]
    sha256: str


def dense(name: str, tensor: StoredTensor) -> dict[str, StoredTensor]:
    """The part that holds a tensor as it was."""
    return {f"dense:{name}": tensor}


def pack(data: bytes, codec: Codec[TensorRow], name: str = "the weights") -> Packed[TensorRow]:
    """A safetensors file as `codec` stores it. The same input gives the same bytes. name: of the file, for messages.

    Raises ModelError when it is damaged, no safetensors file, or packed so already.
    """
    try:
        header, tensors, metadata = parse(data)
    except Damaged as error:
        raise ModelError(
            f"{name} is not a whole safetensors file: {error}",
            "pocketforge packs weights as safetensors.torch.save_file writes them",
        ) from error
    if codec.format in (metadata.get("format"), *metadata):
        raise ModelError(f"{name} is stored {codec.stored} already", "unpack gives the dense file back")
    parts: dict[str, StoredTensor] = {}
    rows = []
    for key, tensor in tensors.items():
        row, chosen = codec.encode(key, tensor)
        rows.append(row)
        parts.update(chosen)
    sha256 = hashlib.sha256(data).hexdigest()
    packed = serialize(parts, {"format": codec.format, "header": header, "sha256": sha256, "version": VERSION})
    if unpack(packed, codec) != data:
        raise ModelError(f"{name} would not come back as it is", "write it again with safetensors.torch.save_file")
    return Packed(packed, len(data), _gzip_bytes(data), _gzip_bytes(packed), tuple(rows))


def _gzip_bytes(data: bytes) -> int:
    return len(gzip.compress(data, 9, mtime=0))


def unpack(packed: bytes, codec: Codec[object]) -> bytes:
    """The dense file. Raises Damaged."""
    opened = open_packed(packed, codec)
    header = opened.header.encode("utf-8", "replace")  # a damaged one: the hash will tell
    pieces = [len(header).to_bytes(8, "little"), header]
    for name, entry in by_place(opened.entries.items()):
        part = opened.parts.get(f"dense:{name}")
        pieces.append(part.data if part is not None else codec.decode(name, entry, opened.parts))
    data = b"".join(pieces)
    if hashlib.sha256(data).hexdigest() != opened.sha256:
        raise Damaged("it is damaged: what was unpacked is not what was packed (SHA-256)")
    return data


def unpack_file(source: Path, to: Path, codec: Codec[object]) -> Unpacked:
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


def open_packed(packed: bytes, codec: Codec[object]) -> Opened:
    """What a packed file holds. Raises Damaged."""
    _, parts, metadata = parse(packed)
    if codec.format in metadata:  # codebooks of before version 1 was everyone's: all of it under that key
        try:
            about = dict(json.loads(metadata[codec.format]))
        except (ValueError, TypeError, RecursionError) as error:
            raise Damaged(f"it is not whole ({error})") from error
        metadata = {key: str(value) for key, value in about.items()} | {"format": codec.format}
    if metadata.get("format") != codec.format:
        other = f": its format is {metadata['format']!r}" if "format" in metadata else ""
        raise Damaged(f"it is not stored {codec.stored}{other}")
    if metadata.get("version") != VERSION:
        found = f"version {metadata['version']}" if "version" in metadata else "no version"
        raise Damaged(f"it has {found}, this Pocketforge reads version {VERSION} of {codec.format}")
    if "header" not in metadata or "sha256" not in metadata:
        raise Damaged("its metadata lack the header or the hash of the dense file")
    _, entries = parse_header(metadata["header"])
    return Opened(metadata["header"], entries, parts, metadata["sha256"])
