"""What all tables in the terminal share: where they are drawn, how they fold, how figures are written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Stdout, to draw tables on; as wide as they want when it is a file, where nothing needs to fit a window."""
    found = Console(highlight=False, soft_wrap=True)
    return found if found.is_terminal else Console(highlight=False, soft_wrap=True, width=1000)


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table that fits 80 columns by folding names, never numbers. `numbers` are the columns that hold them."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column in numbers
        # Its unit goes on a second line, where the numbers are short.
        header = "\n".join(column.rsplit(" ", 1)) if number else column
        made.add_column(header, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return made


def short_lane(lane: str) -> str:
    """A step's lane; one that serves several, in few words."""
    first, *rest = lane.split("+")
    return f"{first} (+{len(rest)} more)" if rest else first


def milliseconds(value: float) -> str:
    return f"{value:,.3f}" if value < 100 else f"{value:,.1f}"
