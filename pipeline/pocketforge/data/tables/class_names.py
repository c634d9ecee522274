"""The classes that a table's cells name: gathered in one reading, then numbered."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pocketforge.data.annotated.object_samples import numbered
from pocketforge.data.labels import check_names
from pocketforge.data.tables.inputs import leaves, number_in
from pocketforge.data.tables.rows import Cell
from pocketforge.data.targets import MOST_CLASSES
from pocketforge.errors import ModelError

_BETWEEN = "|"
_REAL = (
    'of real numbers write data.columns.target = { value = "…" }, with task = "regression"; '
    "if they are names of classes, give data.labels"
)


def several(cell: Cell, *, typed: bool) -> list[Cell]:
    """The entries of a cell that holds a list; in CSV `cat|dog`, empty for none."""
    if isinstance(cell, list):
        return leaves(cell)
    if cell is None or cell == "":
        return []
    return list(str(cell).split(_BETWEEN)) if isinstance(cell, str) and not typed else [cell]


class ClassNames:
    """Class names of all columns that name classes; or numbers, where all cells are numbers.

    Attributes:
        labels: Names in the order of class numbers, after `close`; () where cells are numbers.
    """

    def __init__(self, given: tuple[str, ...], known: tuple[str, ...], where: str, *, typed: bool) -> None:
        """given: the recipe's order. known: names that the table itself has for its numbers."""
        self._given, self._known, self._where, self._typed = given, known, where, typed
        self._names: set[str] = set()
        self._first_name = self._first_number = self._first_real = ""
        self._has_words = False
        self._numbers: dict[str, int] = {}
        self._renumbered: list[int] = []
        self.labels: tuple[str, ...] = ()

    def knows(self, cell: Cell) -> bool:
        """Whether it is a name that was seen already."""
        return isinstance(cell, str) and cell in self._names

    def add(self, cell: Cell, where: str) -> None:
        """where: of the record. Raises ModelError for a cell that is neither a name nor a whole number."""
        if isinstance(cell, str):
            number = None if self._typed else number_in(cell)
            if isinstance(number, int) or (number is not None and number.is_integer()):
                self._first_number = self._first_number or where
            else:
                self._first_name = self._first_name or where
            if isinstance(number, float) and not number.is_integer():
                self._first_real = self._first_real or f"{where} has {cell[:60]!r}"
            self._has_words |= number is None
            self._names.add(cell)
            if len(self._names) > MOST_CLASSES:
                raise ModelError(
                    f"data.source: {self._where} has more than {MOST_CLASSES:,} class names: is it no class?"
                )
        elif isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer()):
            self._first_number = self._first_number or where
        else:
            raise ModelError(
                f"data.source: {where} has the class {str(cell)[:60]!r}: wanted a name or a whole number",
                _REAL if isinstance(cell, float) else "",
            )

    def close(self) -> None:
        """All cells were seen. Raises ModelError where some are names and some numbers."""
        if self._first_name and self._first_number and self._typed:
            raise ModelError(
                f"data.source: classes are names ({self._first_name}) and numbers ({self._first_number})",
                "one or the other; numbers' names go into data.labels",
            )
        if not self._first_name:
            self._refuse_two_ways()
            self.labels = self._given or self._known
            if self._given and self._known:
                # Numbers are of the table's own names, which may stand in another order in the recipe's.
                numbers = numbered(self._known, self._given, self._where)
                self._renumbered = [numbers[name] for name in self._known]
            return
        if self._first_real and not self._has_words and not self._given:
            raise ModelError(f"data.source: {self._first_real}, and all classes are numbers: wanted whole ones", _REAL)
        names = sorted(self._names)
        self._numbers = numbered(names, self._given, self._where)
        self.labels = self._given or check_names(names, self._where)

    def _refuse_two_ways(self) -> None:
        """Cells of digits that are names in the recipe's labels, at another place than the number they are."""
        for name in sorted(self._names):
            number = int(float(name))
            if name in self._given and self._given.index(name) != number:
                raise ModelError(
                    f"data.source: {self._where} has the class {name!r}: class number {number}, or the name that "
                    f"data.labels has as class {self._given.index(name)}?",
                    "write other names, or numbers from 0",
                )

    def number(self, cell: Cell, where: str) -> int:
        """A cell's class number. Raises ModelError for one out of range."""
        if isinstance(cell, str) and self._numbers:
            if cell not in self._numbers:
                raise ModelError(f"data.source: {where} has the class {cell!r}, which no record had when it was opened")
            return self._numbers[cell]
        value = number_in(cell) if isinstance(cell, str) else cell
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        most = len(self._renumbered or self.labels) or MOST_CLASSES
        if not isinstance(value, int) or not 0 <= value < most:
            raise ModelError(f"data.source: {where} has label {str(cell)[:60]}, out of range: wanted 0 to {most - 1}")
        return self._renumbered[value] if self._renumbered else int(value)


def class_cells(kind: str, cell: Cell, *, typed: bool) -> Sequence[Cell]:
    """The classes that a target's cell names, by the target's kind."""
    if kind == "label":
        return [cell]
    if kind == "labels":
        return several(cell, typed=typed)
    if kind not in ("classes", "tags"):
        return []
    listed = listed_cell(cell, typed=typed)
    return [] if listed is None else leaves(listed)


def listed_cell(cell: Cell, *, typed: bool) -> list[Cell] | None:
    """A list; in CSV it stands there as JSON has it: [[0, 0, 4, 4]]. None for what is none."""
    found: object = cell
    if isinstance(cell, str) and not typed:
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, list) else None
