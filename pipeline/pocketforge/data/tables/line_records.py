"""Records of text files, remembered by where each begins: a million take twelve megabytes, and any is read alone."""

from __future__ import annotations

import codecs
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from pocketforge.data.base import SplitName
from pocketforge.data.tables.rows import Part
from pocketforge.errors import ModelError
from pocketforge.files import refuse_special

# Longer ones are no table: a file of another kind has no line ends.
MOST_LINE_BYTES = 2**24


class Lines:
    """The lines of a file as texts, and where the next one begins. As csv wants them: with their ends.

    Attributes:
        start: Where the next line begins, in bytes.
        number: Of the last line, from 1.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.start = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MOST_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MOST_LINE_BYTES:
            raise ModelError(
                f"data.source: {self._path} line {self.number} has more than {MOST_LINE_BYTES:,} bytes",
                "a table has a record a line; is it a file of another kind?",
            )
        self.start += len(line)
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(
                f"data.source: {self._path} line {self.number} is not UTF-8: byte 0x{line[error.start]:02x} at "
                f"{error.start + 1}",
                "save the table in UTF-8",
            ) from None


def open_table(path: Path) -> BinaryIO:
    """Raises ModelError for a file that cannot be read."""
    try:
        refuse_special(path)
        return path.open("rb")
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error


class LineRecords:
    """Where the records of several files are. Each file's are noted once, in order, and then closed with its end."""

    def __init__(self, found: Sequence[tuple[SplitName | None, Path]]) -> None:
        self.paths = [path for _, path in found]
        self._splits = [split for split, _ in found]
        self._starts = [array("Q") for _ in found]
        self._lines = [array("L") for _ in found]
        self._ends: list[int] = []

    def note(self, number: int, start: int, line: int) -> None:
        """A record of file `number` begins at this byte, which is of this line."""
        self._starts[number].append(start)
        self._lines[number].append(line)

    def close(self, number: int, end: int) -> None:
        """All records of a file are noted."""
        self._starts[number].append(end)
        self._ends = [*accumulate(len(starts) - 1 for starts in self._starts[: number + 1])]

    def __len__(self) -> int:
        return self._ends[-1]

    def parts(self, folder: Path) -> list[Part]:
        """Ids of several files begin with their path from the folder."""
        prefixes = [f"{path.relative_to(folder).as_posix()}/" for path in self.paths] if len(self.paths) > 1 else [""]
        return [
            Part(prefix, len(starts) - 1, split)
            for prefix, starts, split in zip(prefixes, self._starts, self._splits, strict=True)
        ]

    def read(self, index: int) -> tuple[int, str]:
        """A record's file, by its number, and its text. Raises ModelError for a file that cannot be read."""
        number, place = self.place(index)
        starts = self._starts[number]
        with open_table(self.paths[number]) as file:
            file.seek(starts[place])
            data = file.read(starts[place + 1] - starts[place])
        return number, data.removeprefix(codecs.BOM_UTF8).decode("utf-8")

    def where(self, index: int) -> str:
        """As `train.csv line 12`."""
        number, place = self.place(index)
        return f"{self.paths[number]} line {self._lines[number][place]}"

    def place(self, index: int) -> tuple[int, int]:
        """A record's file and its number in it."""
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


class LineRows:
    """What tables with a record a line have in common. They say no class names of their own."""

    def __init__(self, found: Sequence[tuple[SplitName | None, Path]], notes: Sequence[str]) -> None:
        self._records = LineRecords(found)
        self.notes = notes

    def classes(self, column: str) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return len(self._records)

    def where(self, index: int) -> str:
        return self._records.where(index)
