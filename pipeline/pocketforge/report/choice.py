"""Which file to ship: among the targets that keep their budgets the smallest, the most accurate, on each device the
fastest, and those that no other beats in everything. Every answer is of what was measured, and names what it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pocketforge.recipe import METRICS
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.metric import Better
from pocketforge.records import HowCompared, HowEstimated, Measurement, Report
from pocketforge.report.budget_words import figure, output_of
from pocketforge.report.tables import milliseconds
from pocketforge.results.latency import latency_interval
from pocketforge.results.plugin_words import in_our_words
from pocketforge.stats import Interval

Point = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The best of the targets that pass, in one respect.

    Attributes:
        question: What was asked: "smallest", "most accurate", "fastest on host", "fewest instructions on pixel4".
        targets: The best, and behind it those that cannot be told apart from it.
        value: The best one's, with its unit.
        why: By which metric, and what the others behind it are told apart by, in words.
    """

    question: str
    targets: tuple[str, ...]
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Quality:
    """The metric that says how good outputs are, in one report.

    Attributes:
        metric: Its name.
        output: The output that it is of; empty where there is one.
        better: Which of its values are.
        title: For the heads of tables and axes.
        values: Target → its value, on the host.
    """

    metric: str
    output: str
    better: Better
    title: str
    values: Mapping[str, Measurement]


def passing(report: Report) -> list[str]:
    """The targets that are built and keep every budget whose severity is "error"."""
    blocked = {gate.target for gate in report.gates if gate.blocks}
    return [each.name for each in report.targets if each.status == "built" and each.name not in blocked]


def choices(report: Report) -> list[Choice]:
    """An answer for each respect in which anything was measured of a target that passes."""
    names = passing(report)
    return list(filter(None, _choices(report, names)))


def _choices(report: Report, names: Sequence[str]) -> Iterator[Choice | None]:
    sizes = values_of(report, "size_bytes")
    yield _best("smallest", sizes, names, "lower", "the model file's bytes")
    quality = quality_of(report)
    if quality is not None:
        yield _most_accurate(quality, names)
    for device in devices_of(report, "latency_ms"):
        yield _fastest(report, device, names)
    for device in devices_of(report, "instructions"):
        counted = values_of(report, "instructions", device)
        yield _best(
            f"fewest instructions on {device}", counted, names, "lower", "counted exactly, on an emulator: no time"
        )


def devices_of(report: Report, metric: str) -> list[str]:
    """Those that a metric was taken on, in the report's order."""
    return list(dict.fromkeys(each.device for each in report.measurements if each.metric == metric))


def values_of(report: Report, metric: str, device: str = "") -> dict[str, Measurement]:
    """Target → its measurement of a metric on a device."""
    return {m.target: m for m in report.measurements if m.metric == metric and m.device == device}


def interval_of(measurement: Measurement) -> tuple[Interval, str] | None:
    """Where the true value may be, and with which probability, in words; None where there is one value alone, or what
    its samples cannot bound."""
    forms = in_our_words(measurement.how)
    estimated = next((form for form in forms if isinstance(form, HowEstimated)), None)
    if estimated is not None:
        return Interval(measurement.value, *estimated.interval), f"{estimated.coverage:.0%}"
    if measurement.metric == "latency_ms" and measurement.samples:
        return latency_interval(measurement.samples, forms[0], "p50"), "95 %"
    return None


def written(measured: Measurement) -> str:
    """A value as tables write it, without its unit."""
    row = METRICS.if_usable(measured.metric)
    return format(measured.value, row.form) if row else figure(measured.value)


def front(points: Mapping[str, Point]) -> list[str]:
    """The names whose point no other beats: is nowhere greater, and somewhere less. Less is better in each place."""

    def beats(one: Point, other: Point) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [name for name, point in points.items() if not any(beats(other, point) for other in points.values())]


def unbeaten(report: Report, device: str) -> list[str]:
    """Of the targets that pass those that no other beats in size, quality and median latency on a device together."""
    quality = quality_of(report)
    sizes, times = values_of(report, "size_bytes"), values_of(report, "latency_ms", device)
    if quality is None:
        return []
    sign = -1 if quality.better == "higher" else 1
    points = {
        name: (sizes[name].value, sign * quality.values[name].value, times[name].value)
        for name in passing(report)
        if name in sizes and name in quality.values and name in times
    }
    return front(points)


def quality_of(report: Report) -> Quality | None:
    """What says how good outputs are: the metric that a budget is on, or whose drop is; else the first of a task that
    was measured; else the SQNR against PyTorch. Of several outputs that of the first. None where none was measured."""
    found: dict[tuple[str, str], dict[str, Measurement]] = {}
    for each in report.measurements:
        if isinstance(each.how, HowCompared) and each.how.worst is None and not each.device:
            found.setdefault((each.metric, output_of(each)), {})[each.target] = each
    budgeted = [gate.metric or output_and_name(gate.budget.metric)[1] for gate in report.gates]
    rows = {name: METRICS.if_usable(name) for name, _ in found}
    drops = [row.drop_of for name in budgeted if (row := METRICS.if_usable(name)) and row.drop_of]
    of_task = [name for name in METRICS.in_order(list(rows)) if (row := rows[name]) and row.of_task]
    users = [name for name in budgeted if name in rows and rows[name] is None and not name.endswith("_drop")]
    asked = [name for name in [*budgeted, *drops] if (row := rows.get(name)) and row.of_task]
    for name in [*asked, *users, *of_task, "parity_sqnr_db"]:
        key = next((key for key in found if key[0] == name), None)
        if key is not None:
            return _quality(key, found[key])
    return None


def _quality(key: tuple[str, str], values: Mapping[str, Measurement]) -> Quality | None:
    metric, output = key
    row = METRICS.if_usable(metric)
    how = next(iter(values.values())).how
    better = (how.better if isinstance(how, HowCompared) else None) or (row.better if row else None)
    if better is None:
        return None
    return Quality(metric, output, better, f"{output} {row.title if row else metric}".strip(), values)


def _best(
    question: str, values: Mapping[str, Measurement], names: Sequence[str], better: Better, why: str
) -> Choice | None:
    """Of exact values."""
    left = [name for name in names if name in values]
    if not left:
        return None
    best = (max if better == "higher" else min)(values[name].value for name in left)
    equal = tuple(name for name in left if values[name].value == best)
    one = values[equal[0]]
    return Choice(question, equal, f"{written(one)} {one.unit}".strip(), why)


def _most_accurate(quality: Quality, names: Sequence[str]) -> Choice | None:
    """With how many samples it is of: of a share of them, one sample is the least that two files can lie apart."""
    row = METRICS.if_usable(quality.metric)
    best = _best("most accurate", quality.values, names, quality.better, quality.title)
    how = quality.values[best.targets[0]].how if best else None
    if best is None or not isinstance(how, HowCompared):
        return best
    why = f"{quality.title} on {how.samples:,} samples"
    if row is not None and row.counted:
        why += f", of which one is {1 / max(how.samples, 1):.2g}"
    return Choice(best.question, best.targets, best.value, why)


def _fastest(report: Report, device: str, names: Sequence[str]) -> Choice | None:
    """By medians with their intervals: those whose interval meets the best one's are not told apart from it."""
    times = {
        name: known[0]
        for name, each in values_of(report, "latency_ms", device).items()
        if name in names and (known := interval_of(each)) is not None
    }
    if not times:
        return None
    order = sorted(times, key=lambda name: times[name].value)
    best = times[order[0]]
    alike = tuple(name for name in order if times[name].low <= best.high)
    why = "median latency; behind it those whose 95 % interval meets its own" if len(alike) > 1 else "median latency"
    return Choice(f"fastest on {device}", alike, f"{milliseconds(best.value)} ms", why)
