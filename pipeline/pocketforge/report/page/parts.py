"""What the page is made of: sections with sentences, tables and plots. The template draws any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from markupsafe import Markup

Tone = Literal["", "good", "bad", "near", "none"]
TONES: dict[str, Tone] = {
    "PASS": "good",
    "FAIL": "bad",
    "ERROR": "bad",
    "MISSING": "bad",
    "INCONCLUSIVE": "near",
    "built": "good",
    "wrong": "bad",
    "failed": "bad",
    "rejected": "bad",
    "skipped": "near",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        note: A second, smaller line; empty for none.
        tone: Its colour; the text says the same.
        code: Whether it is a name or a hash, which may break anywhere.
        mark: Number of the target whose colour stands before it; 0 for none.
    """

    text: str
    note: str = ""
    tone: Tone = ""
    code: bool = False
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: What it shows.
        heads: Of the columns.
        rows: As many cells each as heads.
        numbers: The columns that hold numbers, from 0.
    """

    caption: str
    heads: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its caption.

    Attributes:
        svg: As markup; its title says what it shows.
        caption: How to read it.
    """

    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        ident: For links to it.
        title: Its heading.
        lines: Sentences below it.
        faults: Those that say what went wrong.
        tables: Then these.
        folded: Whether the tables are long, and open one by one.
        plots: And these, beside each other where there is room.
        keyed: Whether its plots have targets by their numbers.
        notes: What is left to say: of figures that are not there, too.
    """

    ident: str
    title: str
    lines: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False
    plots: tuple[Plot, ...] = ()
    keyed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page.

    Attributes:
        title: The recipe's name, or the metric's.
        verdict: The report's, or what there is to say instead.
        tone: The verdict's colour.
        summary: In a sentence.
        targets: Their names; a target's number on the page is its place, from 1.
        sections: In order.
        kind: What page it is, above its title.
        made_from: What all on it stands in.
    """

    title: str
    verdict: str
    tone: Tone
    summary: str
    targets: tuple[str, ...]
    sections: tuple[Section, ...]
    kind: str = "Pocketforge build report"
    made_from: str = "report.json"


def table(caption: str, heads: tuple[str | Cell, ...], rows: list[tuple[str | Cell, ...]], *numbers: str) -> Table:
    """A table of texts and cells; `numbers` are heads of columns that hold numbers."""
    cells = tuple(map(_cell, heads))
    of_numbers = frozenset(at for at, head in enumerate(cells) if head.text in numbers)
    return Table(caption, cells, tuple(tuple(map(_cell, row)) for row in rows), of_numbers)


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)
