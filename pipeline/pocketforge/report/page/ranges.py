"""Which ranges calibration saw, layer by layer: as a plot, and all of them as a table."""

from __future__ import annotations

import math
from statistics import median

from pocketforge.outcomes.quantize import CalibratedRange
from pocketforge.records import Report, TargetRecord
from pocketforge.report.page.parts import Cell, Plot, Section, Table, table
from pocketforge.report.page.rows import Row, drawn_rows

_MOST_ROWS = 30
# Ranges that are so many times wider than the middle one would leave the others no width.
_APART = 30
_HEADS = ("tensor", "least", "largest", "scale", "zero point")


def calibrated(report: Report) -> Section | None:
    """None where no target has a static scheme, or the report is of an earlier version."""
    tables: list[Table] = []
    plots: list[Plot] = []
    notes: list[str] = []
    shown: dict[tuple[CalibratedRange, ...], str] = {}
    for target in report.targets:
        found = target.facts.calibration
        if found is None:
            continue
        if found.ranges in shown:
            notes.append(f"{target.name}: the ranges of {shown[found.ranges]}, whose quantized graph it has.")
            continue
        shown[found.ranges] = target.name
        tables.append(_table(target, found.ranges, found.left_out))
        plots.append(_plot(target, found.ranges))
    if not tables:
        return None
    line = "What each activation was on the calibration samples, and the levels that were made of it."
    return Section(
        "ranges",
        "Ranges of calibration",
        (line,),
        (),
        tuple(tables),
        folded=True,
        plots=tuple(plots),
        notes=tuple(notes),
    )


def _table(target: TargetRecord, ranges: tuple[CalibratedRange, ...], left_out: int) -> Table:
    rows: list[tuple[str | Cell, ...]] = [
        (
            Cell(each.tensor, code=True),
            f"{each.low:.6g}",
            f"{each.high:.6g}",
            "" if each.scale is None else f"{each.scale:.6g}",
            "" if each.zero_point is None else str(each.zero_point),
        )
        for each in ranges
    ]
    more = f", and {left_out:,} more that the report leaves out" if left_out else ""
    return table(f"{target.name}: {len(ranges):,} tensors{more}", _HEADS, rows, *_HEADS[1:])


def _plot(target: TargetRecord, ranges: tuple[CalibratedRange, ...]) -> Plot:
    """A bar from the least to the largest value, in the graph's order; of many, the widest."""
    widest = set(sorted(range(len(ranges)), key=lambda at: ranges[at].low - ranges[at].high)[:_MOST_ROWS])
    rows = [each for at, each in enumerate(ranges) if at in widest]
    widths = [each.high - each.low for each in rows]
    usual = median(widths) or max(widths) or 1.0
    bent = max(widths) > _APART * usual
    unit = usual / 10

    def along(value: float) -> float:
        return math.copysign(math.log10(1 + abs(value) / unit), value) if bent else value

    low, high = min(0.0, *(each.low for each in rows)), max(0.0, *(each.high for each in rows))
    first, span = along(low), (along(high) - along(low)) or 1.0
    drawn = [
        Row(
            each.tensor.partition(" (")[0],
            (along(each.low) - first) / span,
            (along(each.high) - first) / span,
            0,
            f"{each.tensor}: {each.low:.4g} to {each.high:.4g}",
            (f"{each.low:.3g}", f"{each.high:.3g}"),
        )
        for each in rows
    ]
    ticks = {low: f"{low:.3g}", 0.0: "0", high: f"{high:.3g}"}
    places = [((along(value) - first) / span, words) for value, words in ticks.items()]
    left = len(ranges) - len(rows)
    caption = f"{target.name}: from the least to the largest value of each tensor, in the graph's order."
    caption += f" {left} narrower ones are left out." if left else ""
    caption += " The axis is logarithmic on both sides of 0." if bent else ""
    title = f"ranges that calibration saw, of {target.name}"
    return Plot(drawn_rows(drawn, title, ("least", "largest"), places, "ranges"), caption)
