"""CSV as records: texts in UTF-8, the first line names the columns, a quoted cell may have several lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from pocketforge.data.base import SplitName
from pocketforge.data.tables.line_records import MOST_LINE_BYTES, LineRows, Lines, open_table
from pocketforge.data.tables.rows import Cell
from pocketforge.errors import ModelError
from pocketforge.recipe.columns import Columns

_DELIMITERS = (",", ";", "\t")


class DelimitedRows(LineRows):
    """CSV files that have the columns asked for, in any order.

    The delimiter is the one of comma, semicolon and tab that gives the columns asked for, else the most columns.
    """

    typed = False

    def __init__(
        self,
        found: Sequence[tuple[SplitName | None, Path]],
        asked: Columns | None,
        folder: Path,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(found, notes)
        csv.field_size_limit(MOST_LINE_BYTES)
        headers = [_header(path, _wanted(asked)) for path in self._records.paths]
        self._names = [names for names, _ in headers]
        self._delimiters = [delimiter for _, delimiter in headers]
        self.names: Sequence[str] = self._names[0]
        for number in range(len(found)):
            for _ in self._read(number, (), note=True):
                pass
        self.parts = self._records.parts(folder)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        for number in range(len(self._names)):
            yield from self._read(number, columns)

    def _read(self, number: int, columns: Sequence[str], *, note: bool = False) -> Iterator[tuple[str, ...]]:
        """The records of a file. note: where each begins is noted."""
        path, names = self._records.paths[number], self._names[number]
        places = _places(names, columns, path)
        with open_table(path) as file:
            lines = Lines(file, path)
            reader = csv.reader(lines, delimiter=self._delimiters[number], strict=True)
            try:
                next(reader)
                while True:
                    start, line = lines.start, lines.number + 1
                    record = next(reader, None)
                    if record is None:
                        break
                    if not record:
                        continue  # an empty line
                    if len(record) != len(names):
                        raise ModelError(
                            f"data.source: {path} line {line} has {len(record)} cells, the first line {len(names)}",
                            'a cell that holds a delimiter or a quote is quoted: "a, b"',
                        )
                    if note:
                        self._records.note(number, start, line)
                    yield tuple(record[place] for place in places)
            except csv.Error as error:
                raise ModelError(f"data.source: {path} line {lines.number} is no CSV: {error}") from error
            if note:
                self._records.close(number, lines.start)

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        number, text = self._records.read(index)
        # Lines end with LF alone here too: U+2028 and the like are letters of a cell.
        lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n")]
        record = next(cells for cells in csv.reader(lines, delimiter=self._delimiters[number]) if cells)
        return tuple(record[place] for place in _places(self._names[number], columns, self._records.paths[number]))


def _wanted(asked: Columns | None) -> set[str]:
    if asked is None:
        return set()
    named = {*asked.inputs, *asked.targets.values(), asked.id, asked.split, *asked.slices}
    return named - {""}


def _header(path: Path, wanted: set[str]) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter between them."""
    read = []
    for delimiter in _DELIMITERS:
        with open_table(path) as file:
            try:
                names = next(csv.reader(Lines(file, path), delimiter=delimiter, strict=True), [])
            except csv.Error as error:
                raise ModelError(f"data.source: {path} line 1 is no CSV: {error}") from error
        read.append(([name.strip() for name in names], delimiter))
    # Python's max takes the first of equals.
    names, delimiter = max(read, key=lambda each: (len(wanted & set(each[0])), len(each[0])))
    if not names:
        raise ModelError(f"data.source: {path} is empty", "the first line names the columns")
    return names, delimiter


def _places(names: Sequence[str], columns: Sequence[str], path: Path) -> list[int]:
    for column in columns:
        if names.count(column) != 1:
            what = f"the column {column!r} {names.count(column)} times" if column in names else f"no column {column!r}"
            raise ModelError(f"data.source: {path} has {what}; its columns: {', '.join(names[:20])}")
    return [names.index(column) for column in columns]
