"""JSON lines as records: an object a line, whose keys are columns; `meta.device` is a key of the object in `meta`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pocketforge.data.base import SplitName
from pocketforge.data.tables.line_records import LineRows, Lines, open_table
from pocketforge.data.tables.rows import Cell
from pocketforge.errors import ModelError

_DEEPEST = 4


class ObjectRows(LineRows):
    """Files of JSON objects. The first one of each file names the columns; another may lack some (its cell is None)."""

    typed = True

    def __init__(self, found: Sequence[tuple[SplitName | None, Path]], folder: Path, notes: Sequence[str] = ()) -> None:
        super().__init__(found, notes)
        names: dict[str, None] = {}
        for number in range(len(found)):
            first = True
            for record in self._read(number, note=True):
                if first:
                    names |= dict.fromkeys(columns_of(record))
                first = False
        self.names: Sequence[str] = list(names)
        self.parts = self._records.parts(folder)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        for number in range(len(self._records.paths)):
            for record in self._read(number):
                yield tuple(cell_of(record, column) for column in columns)

    def _read(self, number: int, *, note: bool = False) -> Iterator[Mapping[str, Cell]]:
        path = self._records.paths[number]
        with open_table(path) as file:
            lines = Lines(file, path)
            start = 0
            for line in lines:
                if line.strip():
                    if note:
                        self._records.note(number, start, lines.number)
                    yield parse_object(line, f"{path} line {lines.number}")
                start = lines.start
            if note:
                self._records.close(number, lines.start)

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        _, text = self._records.read(index)
        record = parse_object(text, self.where(index))
        return tuple(cell_of(record, column) for column in columns)


def parse_object(text: str, where: str) -> Mapping[str, Cell]:
    """Raises ModelError for what is no JSON object, and for NaN and infinities, which JSON has not."""
    try:
        record = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"data.source: {where} is no JSON: {error}", "a JSON object a line") from error
    if not isinstance(record, dict):
        raise ModelError(f"data.source: {where} is a {type(record).__name__}, not an object", "a JSON object a line")
    return record


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}")


def columns_of(record: Mapping[str, Cell], before: str = "", depth: int = 0) -> Iterator[str]:
    """Keys, and those of objects inside, `meta.device`."""
    for key, cell in record.items():
        if isinstance(cell, dict) and depth < _DEEPEST:
            yield from columns_of(cell, f"{before}{key}.", depth + 1)
        else:
            yield f"{before}{key}"


def cell_of(record: Mapping[str, Cell], column: str) -> Cell:
    """None where the record has none."""
    if column in record:
        return record[column]
    cell: Cell = record
    for key in column.split("."):
        if not isinstance(cell, dict) or key not in cell:
            return None
        cell = cell[key]
    return cell
