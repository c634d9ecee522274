"""What changed between two reports, in the terminal: why first, then what came and went."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from pocketforge.report.comparison import Change
from pocketforge.report.difference import HEADS
from pocketforge.report.tables import Screen, console, screen_of, table, words
from pocketforge.report.target_comparison import TargetCompared, percent


def show_comparison(compared: Sequence[TargetCompared], rows: int) -> None:
    """rows: of each list at most so many, those that grew most and those that shrank most."""
    _draw(console(), compared, rows)


def write(compared: Sequence[TargetCompared], rows: int) -> str:
    """The same as text for a file."""
    text = io.StringIO()
    _draw(screen_of(text), compared, rows)
    return text.getvalue().rstrip("\n")


def _draw(screen: Screen, compared: Sequence[TargetCompared], rows: int) -> None:
    for number, pair in enumerate(compared):
        if number:
            screen.print()
        screen.print(words((pair.names, "bold"), ": the same file" if pair.same_file else ""))
        for line in [*pair.why, *pair.layers]:
            screen.print(f"  {line}")
        if pair.unread:
            screen.print(f"  what is in the files is not told: {pair.unread}")
        if pair.values:
            numbers = HEADS[2:]
            values = table("", *HEADS[1:], numbers=numbers)
            for row in pair.values:
                values.add_row(*row)
            screen.print(values)
        for kinds, changes in lists(pair):
            _show_changes(screen, kinds, changes, rows)


def lists(pair: TargetCompared) -> Iterator[tuple[str, Sequence[Change]]]:
    """What came and went, list by list."""
    if pair.files is not None:
        yield "operators", pair.files.operators
        yield "bytes by part", [part for part in pair.files.parts if part.growth]
        yield "bytes of weights by dtype", pair.files.dtypes
        yield "bytes of weights", pair.files.weights
    for counted in pair.counts:
        yield f"instructions on {counted.device} by class", counted.classes
        yield f"instructions on {counted.device} by function", counted.functions


def shown(changes: Sequence[Change], rows: int) -> Sequence[Change]:
    """Those that grew most, and those that shrank most."""
    return changes if len(changes) <= rows else [*changes[: rows - rows // 2], *changes[len(changes) - rows // 2 :]]


def _show_changes(screen: Screen, kinds: str, changes: Sequence[Change], rows: int) -> None:
    if not changes:
        return
    numbers = ("before", "after", "change", "%")
    drawn = table(kinds, "name", *numbers, numbers=numbers)
    for row in shown(changes, rows):
        drawn.add_row(*cells(row))
    screen.print(drawn)
    if len(changes) > rows:
        screen.print(f"… {len(changes) - rows} more {kinds} changed by less (--rows)")


def cells(row: Change) -> tuple[str, ...]:
    growth = "gone" if not row.after else percent(row.before, row.after)
    return row.name, f"{row.before:,}", f"{row.after:,}", f"{row.growth:+,}", growth
