"""What all tables in the terminal share: where they are drawn, how they fold, how figures are written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pocketforge.streams import as_is, printable

# What a report is made of, all of it: a sixth of `plan`, whose table has none of it.
if TYPE_CHECKING:
    from pocketforge.outcomes.reference import WeightsRead
    from pocketforge.outcomes.verify import Measured
    from pocketforge.records import HeldAgainstHost


class Screen(Console):
    """A console that takes text for what it is: names out of files have no markup, and their control characters show.

    What is written to it is a line each (`words` for one with colours); a `Text` of ours may have several.
    """

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, lines=True))


def console(*, stderr: bool = False) -> Screen:
    """Stdout, to draw tables on; as wide as they want when it is a file, where nothing needs to fit a window."""
    file = as_is(sys.stderr if stderr else sys.stdout)
    screen = Screen(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, force_jupyter=False)
    return screen if stderr or screen.is_terminal else screen_of(file)


def screen_of(file: IO[str]) -> Screen:
    """A file to draw tables into, as wide as they want."""
    return Screen(
        file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, width=1000, force_jupyter=False
    )


def words(*parts: str | tuple[str, str]) -> Text:
    """A line of which some parts have a style: (text, style)."""
    return Text.assemble(
        *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    )


def told(screen: Console, word: str, style: str, text: str) -> None:
    """A word with a style, and text that may have several lines, all of them beside it."""
    first, *rest = text.split("\n")
    screen.print(words((f"{word:<9}", style), first))
    for line in rest:
        screen.print(f"{'':<9}{line}")


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table that fits 80 columns by folding names, never numbers. `numbers` are the columns that hold them."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column in numbers
        # Its unit goes on a second line, where the numbers are short.
        header = "\n".join(column.rsplit(" ", 1)) if number else column
        drawn.add_column(Text(header), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return drawn


def plain_table(
    screen: Screen, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """A line a row, nothing folded: for tables of thousands of rows, of which rich lays out 2,500 in a CPU second."""
    drawn = []
    for name, *cells in zip(columns, *rows, strict=True):
        shown = [name, *(cell if cell.isprintable() else printable(cell) for cell in cells)]
        lengths = [len(cell) if cell.isascii() else cell_len(cell) for cell in shown]
        width = max(lengths)
        if name in numbers:
            drawn.append([" " * (width - length) + cell for cell, length in zip(shown, lengths, strict=True)])
        else:
            drawn.append([cell + " " * (width - length) for cell, length in zip(shown, lengths, strict=True)])
    screen.file.write("".join("  ".join(line).rstrip() + "\n" for line in zip(*drawn, strict=True)))


def short_lane(lane: str) -> str:
    """A step's lane; one that serves several, in few words."""
    first, *rest = lane.split("+")
    return f"{first} (+{len(rest)} more)" if rest else first


def milliseconds(value: float) -> str:
    return f"{value:,.3f}" if value < 100 else f"{value:,.1f}"


def against_host(host: Measured) -> str:
    """The SQNR of a device's outputs against the host's, of the worst one; of integers, the share of equal ones."""
    if host.sqnr_db is not None:
        return f"{host.sqnr_db:.1f}"
    if not host.outputs:
        return "not judged"
    return "none alike" if host.integer_agreement is None else f"{host.integer_agreement:.1%} equal"


def top1(verified: HeldAgainstHost | None) -> str:
    """Top-1 of a file's outputs on a device; empty where there is none."""
    share = verified.device.accuracy.get("accuracy_top1") if verified else None
    return "" if share is None else f"{share:.4f}"


def weights_lines(weights: WeightsRead | None) -> list[str]:
    """What was done to the weights file's content, where something was."""
    return [f"weights {weights.file}: {'; '.join(weights.done)}"] if weights and weights.done else []
