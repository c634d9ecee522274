"""What every table of samples offers, whatever its format: records with named cells, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from pocketforge.data.base import SplitName

# What a cell that is a file, or the content of one, becomes.
FileKind = Literal["image", "sound", "array"]
# A text, a number, a list of cells, a Blob, or None where a record has no such cell.
Cell: TypeAlias = object


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of a file that lies in the table itself.

    Attributes:
        kind: What it is.
        name: For errors.
    """

    kind: FileKind
    name: Path

    def read(self) -> bytes:
        """Raises ModelError where it cannot be read."""
        raise NotImplementedError

    def sketch(self) -> bytes:
        """8 bytes that are equal where contents are."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Part:
    """Records that follow each other and have one origin: a file's, a tar's.

    Attributes:
        prefix: What their ids begin with, before a number from 0.
        count: How many there are.
        split: Their official one.
    """

    prefix: str
    count: int
    split: SplitName | None


class Rows(Protocol):
    """A table.

    Attributes:
        names: Its columns.
        parts: Its records, in order.
        typed: Whether numbers are told from texts: not in CSV.
        classes: Names of the classes of a column whose numbers have names in the table itself; () where none has.
        notes: What was taken as what, for the user.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def parts(self) -> Sequence[Part]: ...

    @property
    def typed(self) -> bool: ...

    @property
    def notes(self) -> Sequence[str]: ...

    def classes(self, column: str) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        """The cells of each record, in order; nothing of it is kept. Raises ModelError, with the record's place."""
        ...

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        """Those of one record."""
        ...

    def where(self, index: int) -> str:
        """For errors: `train.csv line 12`."""
        ...
