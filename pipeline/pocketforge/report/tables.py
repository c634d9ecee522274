"""What all tables in the terminal share: where they are drawn, how they fold, how figures are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def against_host(verified: Mapping[str, Any]) -> str:
    """The SQNR of a device's outputs against the host's, of the worst one; of integers, the share of equal ones."""
    host = verified["host"]
    if "sqnr_db" in host:
        return f"{host['sqnr_db']:.1f}"
    return f"{host['integer_agreement']:.1%} equal" if "integer_agreement" in host else "none alike"


def weights_lines(found: Mapping[str, Any]) -> list[str]:
    """What was done to the weights file's content, where something was."""
    weights = found.get("weights", {})
    return [f"weights {weights['file']}: {'; '.join(weights['done'])}"] if weights.get("done") else []
