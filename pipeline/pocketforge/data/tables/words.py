"""What a table's split column says, a byte a record."""

from __future__ import annotations

from pocketforge.data.tables.rows import Cell, Rows
from pocketforge.errors import ModelError

_MOST_WORDS = 255


class Words:
    """The words of a split column, and which one each record has.

    Attributes:
        words: In the order in which they came.
        codes: Of each record the place of its word.
        notes: What was taken as what, for the user.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.codes = bytearray()
        self.notes: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, cell: Cell, rows: Rows, index: int) -> None:
        """Raises ModelError for a record without a word, and for more words than splits can be."""
        word = "" if cell is None else str(cell)
        if word not in self._places:
            if not word:
                raise ModelError(f"data.source: {rows.where(index)} says no split")
            if len(self.words) == _MOST_WORDS:
                raise ModelError(f"data.source: {rows.where(index)}: a split column has at most {_MOST_WORDS} words")
            self._places[word] = len(self.words)
            self.words.append(word)
        self.codes.append(self._places[word])
