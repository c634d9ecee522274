"""The safetensors format: read strictly, so that every byte of a file has its place, and written. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class Damaged(Exception):
    """What is wrong with a file's content; becomes a ModelError that names the file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
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


class HeaderEntry(NamedTuple):
    """A tensor's entry in a header. offsets: of its first byte and behind its last, in the data."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]


def by_place(entries: Iterable[tuple[str, HeaderEntry]]) -> list[tuple[str, HeaderEntry]]:
    """In the order of their data. An empty one comes first."""
    return sorted(entries, key=lambda item: (item[1].offsets, item[0]))


def parse(data: bytes) -> tuple[str, dict[str, StoredTensor], dict[str, str]]:
    """The header's text, the tensors in the order of their data, and the metadata. Raises Damaged."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise Damaged(f"{len(data)} bytes do not hold its header")
    try:
        header = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged("its header is no text") from error
    metadata, entries = parse_header(header)
    tensors: dict[str, StoredTensor] = {}
    end = 8 + length
    # Tensors lie one after another, without gaps: the header and they are the whole file.
    for name, (dtype, shape, offsets) in by_place(entries.items()):
        if offsets[0] + 8 + length != end or offsets[1] + 8 + length > len(data) or offsets[1] < offsets[0]:
            raise Damaged(f"the data of {name} are not where they belong")
        end = offsets[1] + 8 + length
        size = ITEM_BYTES.get(dtype)
        if size is not None and offsets[1] - offsets[0] != math.prod(shape) * size:
            raise Damaged(f"{name} has {offsets[1] - offsets[0]} bytes, {dtype} {list(shape)} needs another number")
        tensors[name] = StoredTensor(dtype, shape, data[end - (offsets[1] - offsets[0]) : end])
    if end != len(data):
        raise Damaged(f"{len(data) - end} bytes belong to no tensor")
    return header, tensors, metadata


def parse_header(header: str) -> tuple[dict[str, str], dict[str, HeaderEntry]]:
    """The metadata, and type, shape and offsets of each tensor. Raises Damaged."""
    try:
        content = json.loads(header)
        metadata = content.pop("__metadata__", None) or {}
        entries = {}
        for name, entry in content.items():
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            if not isinstance(entry["dtype"], str) or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError(f"the entry of {name} is no type, shape and offsets")
            entries[name] = HeaderEntry(entry["dtype"], tuple(shape), (begin, end))
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"its header is broken ({error})") from error
    return metadata, entries


def serialize(parts: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> bytes:
    """The file that holds these tensors; the same ones give the same bytes, which safetensors' own writer, with several
    metadata, does not promise."""
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


def header_entry(part: StoredTensor, begin: int = 0) -> dict[str, object]:
    """A tensor's entry in a header. begin: where its data do."""
    return {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [begin, begin + len(part.data)]}
