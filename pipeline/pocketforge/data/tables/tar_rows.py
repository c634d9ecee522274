"""WebDataset tars as records: members of one name and several endings are a sample. Read in place, never unpacked."""

from __future__ import annotations

import hashlib
import os
import tarfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from pocketforge.data.base import SplitName
from pocketforge.data.packed import Texts
from pocketforge.data.tables.file_cells import file_kind
from pocketforge.data.tables.object_rows import cell_of, columns_of, parse_object
from pocketforge.data.tables.rows import Blob, Cell, Part
from pocketforge.errors import ModelError
from pocketforge.files import refuse_special

_JSON = "json"
# Endings whose content is a text; the last whose text is a number where it is one.
_TEXTS = frozenset({"txt", "text", "transcript", "cls", "cls2", "index", "id", "inx"})
_NUMBERS = frozenset({"cls", "cls2", "index", "inx"})
_MOST_TEXT_BYTES, _PIECE = 2**24, 256
_NONE = 2**64 - 1
KEY = "__key__"
_HINT = "a sample's members follow each other: a/1.jpg, a/1.cls, a/1.json, a/2.jpg …"


@dataclass(frozen=True, slots=True)
class TarMember(Blob):
    """The content of one member.

    Attributes:
        tar: The tar's path.
        offset: Where its content begins, in bytes.
        size: Of its content, in bytes.
    """

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        return _read(self.tar, self.offset, self.size)

    def sketch(self) -> bytes:
        pieces = [
            _read(self.tar, self.offset + place, min(_PIECE, self.size - place))
            for place in (self.size // 2, max(0, self.size - _PIECE))
        ]
        return hashlib.blake2b(b"".join([self.size.to_bytes(8, "little"), *pieces]), digest_size=8).digest()


class _Member(NamedTuple):
    key: str
    ending: str
    offset: int
    size: int


class TarRows:
    """Tars of samples with the same endings; columns are endings, `json.device` and the like, and `__key__`."""

    typed = True

    def __init__(self, found: Sequence[tuple[SplitName | None, Path]], folder: Path, notes: Sequence[str] = ()) -> None:
        self._paths = [path for _, path in found]
        self.notes = notes
        self._keys = Texts()
        self._tars = array("L")
        # Ending → of each record where its content begins, and its size; all ones where it has none.
        self._offsets: dict[str, array[int]] = {}
        self._sizes: dict[str, array[int]] = {}
        counts = []
        for number, path in enumerate(self._paths):
            before = len(self._keys)
            for members in _samples(path):
                self._add(number, members)
            counts.append(len(self._keys) - before)
        several = len(found) > 1
        self.parts = [
            Part(f"{path.relative_to(folder).as_posix()}/" if several else "", count, split)
            for (split, path), count in zip(found, counts, strict=True)
        ]
        self._ends = [*accumulate(counts)]
        # Endings that not all samples have are columns too: their cell is None where one lacks it.
        self.names: Sequence[str] = [KEY, *self._offsets, *(f"{_JSON}.{name}" for name in self._json_names())]

    def _add(self, tar: int, members: Mapping[str, _Member]) -> None:
        count = len(self._keys)
        for ending in members.keys() - self._offsets.keys():
            self._offsets[ending] = array("Q", [_NONE]) * count
            self._sizes[ending] = array("Q", [0]) * count
        for ending, offsets in self._offsets.items():
            member = members.get(ending)
            offsets.append(member.offset if member else _NONE)
            self._sizes[ending].append(member.size if member else 0)
        self._keys.append(next(iter(members.values())).key)
        self._tars.append(tar)

    def _json_names(self) -> list[str]:
        if not len(self) or _JSON not in self._offsets:
            return []
        record = self._content(0, _JSON)
        return list(columns_of(record)) if isinstance(record, dict) else []

    def classes(self, column: str) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        return f"{self._paths[self._tars[index]]}: {self._keys[index]}"

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        for index in range(len(self)):
            yield self.cells(index, columns)

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        record: Mapping[str, Cell] | None = None
        cells: list[Cell] = []
        for column in columns:
            ending, _, key = column.partition(".")
            if column == KEY:
                cells.append(self._keys[index])
            elif ending == _JSON and key and column not in self._offsets:
                if record is None:
                    found = self._content(index, _JSON)
                    record = found if isinstance(found, dict) else {}
                cells.append(cell_of(record, key))
            else:
                cells.append(self._content(index, column))
        return tuple(cells)

    def _content(self, index: int, ending: str) -> Cell:
        offset, size = self._offsets[ending][index], self._sizes[ending][index]
        if offset == _NONE:
            return None
        tar = self._paths[self._tars[index]]
        name = tar / f"{self._keys[index]}.{ending}"
        last = ending.rpartition(".")[2]
        kind = file_kind(f"x.{last}")
        if kind is not None:
            return TarMember(kind, name, tar, offset, size)
        if size > _MOST_TEXT_BYTES:
            raise ModelError(f"data.source: {name} has {size:,} bytes: wanted a text of at most {_MOST_TEXT_BYTES:,}")
        data = _read(tar, offset, size)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            what = "is not UTF-8" if last in _TEXTS or last == _JSON else f"(.{last}) is neither text, image nor sound"
            raise ModelError(
                f"data.source: {name} {what}: byte 0x{data[error.start]:02x} at {error.start + 1}"
            ) from None
        if last == _JSON:
            return parse_object(text, str(name))
        if last in _NUMBERS and text.strip().lstrip("-").isdecimal():
            return int(text)
        return text.removesuffix("\n")


def _read(tar: Path, offset: int, size: int) -> bytes:
    try:
        with tar.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise ModelError(f"data.source: {tar} cannot be read: {error.strerror or error}") from error
    if len(data) != size:
        raise ModelError(f"data.source: {tar} ends in the middle of a member, at byte {offset + len(data)}")
    return data


def _samples(path: Path) -> Iterator[dict[str, _Member]]:
    """Of each sample, ending → member. Raises ModelError for what is no tar of samples."""
    sample: dict[str, _Member] = {}
    seen: set[str] = set()
    for member in _members(path):
        if sample and next(iter(sample.values())).key != member.key:
            yield sample
            sample = {}
        if not sample:
            if member.key in seen:
                raise ModelError(f"data.source: {path}: {member.key!r} is there twice, apart from each other", _HINT)
            seen.add(member.key)
        if member.ending in sample:
            raise ModelError(f"data.source: {path}: {member.key}.{member.ending} is there twice", _HINT)
        sample[member.ending] = member
    if sample:
        yield sample


def _members(path: Path) -> Iterator[_Member]:
    size = path.stat().st_size
    try:
        refuse_special(path)
        # Not "r:*": what is compressed has no places to read from.
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would hold all of a million
                if info.isdir():
                    continue
                folder, _, name = info.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if not info.isreg() or info.issparse():
                    raise ModelError(f"data.source: {path}: {info.name!r} is no plain file (a link, or sparse)", _HINT)
                if info.offset_data + info.size > size:
                    raise ModelError(f"data.source: {path} ends in the middle of {info.name!r}")
                if stem and ending:  # hidden files have no stem
                    yield _Member(f"{folder}/{stem}".lstrip("/"), ending.lower(), info.offset_data, info.size)
    except tarfile.TarError as error:
        raise ModelError(
            f"data.source: {path} cannot be read as a tar: {error}", "not compressed (.tar.gz): gunzip it first"
        ) from error
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error
