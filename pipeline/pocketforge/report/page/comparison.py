"""Two reports as one page: for each target why it is bigger or slower, and what came and went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.records import Report
from pocketforge.report.comparison_tables import cells, lists, shown
from pocketforge.report.difference import HEADS, verdict_changes
from pocketforge.report.page import rendered
from pocketforge.report.page.parts import Cell, Page, Section, Table, table
from pocketforge.report.target_comparison import TargetCompared

_HEADS = ("name", "before", "after", "change", "%")


def write(before: Report, after: Report, compared: Sequence[TargetCompared], rows: int) -> str:
    """The page. rows: of each list at most so many."""
    return rendered(_page(before, after, compared, rows))


def _page(before: Report, after: Report, compared: Sequence[TargetCompared], rows: int) -> Page:
    changed = [pair for pair in compared if not pair.same_file]
    verdicts = tuple(verdict_changes(before, after))
    found = [Section("verdicts", "Verdicts that are others now", faults=verdicts) if verdicts else None]
    found += [_section(number, pair, rows) for number, pair in enumerate(compared, 1)]
    return Page(
        title=before.recipe if before.recipe == after.recipe else f"{before.recipe} → {after.recipe}",
        verdict=f"{before.verdict} → {after.verdict}",
        tone="good" if after.verdict == "PASS" else "bad",
        summary=f"{len(changed)} of {len(compared)} targets have another file now; verdict before: {before.verdict}, "
        f"now: {after.verdict}.",
        targets=tuple(pair.names for pair in compared),
        sections=tuple(filter(None, found)),
        kind="Pocketforge: what changed between two reports",
    )


def _section(number: int, pair: TargetCompared, rows: int) -> Section:
    same = ("The same file, to the bit.",) if pair.same_file else ()
    return Section(
        f"target-{number}",
        pair.names,
        (*same, *pair.why),
        tables=tuple(_tables(pair, rows)),
        notes=(*pair.layers, *((f"What is in the files is not told: {pair.unread}",) if pair.unread else ())),
    )


def _tables(pair: TargetCompared, rows: int) -> Iterator[Table]:
    if pair.values:
        yield table("Values that are others now", HEADS[1:], list(pair.values), *HEADS[2:])
    for kinds, changes in lists(pair):
        if changes:
            left = f" ({len(changes) - rows} that changed by less are left out)" if len(changes) > rows else ""
            drawn: list[tuple[str | Cell, ...]] = []
            for change in shown(changes, rows):
                name, *numbers = cells(change)
                drawn.append((Cell(name, code=True), *numbers))
            yield table(f"{kinds[0].upper()}{kinds[1:]}{left}", _HEADS, drawn, *_HEADS[1:])
