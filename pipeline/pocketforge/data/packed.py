"""Ids and splits of a million samples in a few bytes each: what a list of Python's texts would take a hundred for."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import overload

from pocketforge.data.base import SplitName

_SPLITS: tuple[SplitName | None, ...] = (None, "train", "eval")


class _Lazy(Sequence[str]):
    """A sequence of texts that are made when they are asked for."""

    def _text(self, index: int) -> str:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._text(place) for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self._text(place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]


class Texts(_Lazy):
    """Texts one behind the other in UTF-8, with 8 bytes more for each. File names that are no UTF-8 come back so."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("Q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def _text(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].decode("utf-8", "surrogateescape")


class Numbered(_Lazy):
    """`PREFIX0`, `PREFIX1` … of one or several parts that are numbered from 0 each.

    parts: prefix and how many there are of it.
    """

    def __init__(self, parts: Sequence[tuple[str, int]]) -> None:
        self._prefixes = [prefix for prefix, _ in parts]
        self._starts = [0, *accumulate(count for _, count in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def _text(self, index: int) -> str:
        part = bisect_right(self._starts, index) - 1
        return f"{self._prefixes[part]}{index - self._starts[part]}"


class Splits(Sequence[SplitName | None]):
    """The official split of each sample, a byte each."""

    def __init__(self, splits: Iterable[SplitName | None] = ()) -> None:
        self._codes = bytearray()
        for split in splits:
            self.append(split)

    def append(self, split: SplitName | None) -> None:
        self._codes.append(_SPLITS.index(split))

    def extend(self, split: SplitName | None, count: int) -> None:
        self._codes += bytes([_SPLITS.index(split)]) * count

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, index: int) -> SplitName | None: ...

    @overload
    def __getitem__(self, index: slice) -> list[SplitName | None]: ...

    def __getitem__(self, index: int | slice) -> SplitName | list[SplitName | None] | None:
        if isinstance(index, slice):
            return [_SPLITS[code] for code in self._codes[index]]
        return _SPLITS[self._codes[index]]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]
