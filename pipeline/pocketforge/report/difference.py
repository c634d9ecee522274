"""What changed from a baseline's report to this one: budgets' verdicts and measured values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pocketforge.records import GateResult, Measurement, Report
from pocketforge.report.budget_words import budget_name, figure, limit, output_of
from pocketforge.results.relative import change_of

_Place = tuple[str, str, str, str]
HEADS = ("target", "metric", "before", "now", "change")


def verdict_changes(before: Report, after: Report) -> list[str]:
    """`accuracy_drop ≤ 0.01 of a: PASS, now FAIL`, for each budget of both that has another verdict now."""
    old = {place: gate.verdict for place, gate in _placed(before)}
    return [
        f"{budget_name(gate)} {limit(gate)} of {gate.target}: {old[place]}, now {gate.verdict}"
        for place, gate in _placed(after)
        if old.get(place, gate.verdict) != gate.verdict
    ]


def value_rows(before: Report, after: Report) -> list[tuple[str, ...]]:
    """As HEADS: each value that is another one now, that is new, or that is not measured any more."""
    old, new = ({_place(each): each for each in report.measurements} for report in (before, after))
    rows = [row for place, each in new.items() for row in _row(place, old.get(place), each)]
    return rows + [row for place, each in old.items() if place not in new for row in _row(place, each, None)]


def _row(place: _Place, before: Measurement | None, after: Measurement | None) -> Iterator[tuple[str, ...]]:
    target, device, metric, output = place
    name = f"{output}.{metric}" if output else metric
    name += f" on {device}" if device else ""
    if before is None or after is None:
        yield (
            target,
            name,
            *(figure(each.value) if each else "" for each in (before, after)),
            ("new" if before is None else "not measured"),
        )
    elif before.value != after.value:
        yield target, name, figure(before.value), figure(after.value), _words(before, after)


def _words(before: Measurement, after: Measurement) -> str:
    """`+3.1 %`; of what was timed once on each side also whether the intervals tell the two apart."""
    try:
        change = change_of([before], [after], "p50")
    except ValueError as error:
        return f"{after.value - before.value:+.4g}; {error}"
    percent = f"{change.ratio.value - 1:+.2%}"
    if change.exact or not change.ratio.low <= 1 <= change.ratio.high:
        return percent
    return f"{percent}, within what two runs differ by"


def _place(measurement: Measurement) -> _Place:
    return measurement.target, measurement.device, measurement.metric, output_of(measurement)


def _placed(report: Report) -> Iterator[tuple[tuple[object, ...], GateResult]]:
    """Each with what it is known by in another report; two that differ in their limits alone by their order."""
    seen: Counter[tuple[object, ...]] = Counter()
    for gate in report.gates:
        budget = gate.budget
        part = (budget.metric, budget.percentile, budget.slice, budget.per)
        place = (*part, gate.target, gate.device, budget.severity, budget.baseline)
        yield (*place, seen[place]), gate
        seen[place] += 1
