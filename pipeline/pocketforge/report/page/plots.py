"""The page's plots, each of what a report has; a target is its number, and has its colour, in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import inf

from pocketforge.outcomes.gains import State
from pocketforge.recipe import METRICS
from pocketforge.records import Measurement, Report
from pocketforge.report.choice import Quality, front
from pocketforge.report.page.parts import Plot
from pocketforge.report.page.pygal_alone import pygal
from pocketforge.report.page.svg import drawn, options
from pocketforge.results.latency import processes_of, rounds_of
from pocketforge.results.plugin_words import in_our_words
from pocketforge.stats import quantile
from pocketforge.streams import printable

# Quartiles, and between which most of the inferences lie.
_BOX = (0.05, 0.25, 0.5, 0.75, 0.95)
# Of the values' span: points nearer than this share one label.
_NEAR = 0.09
# Latencies that lie further apart than so many times are drawn on a logarithmic axis.
_APART = 10
_MOST_ROWS = 20
_MOST_CLASSES = 6


def compact(value: float) -> str:
    """A tick of an axis: `450k`, `1.2M`, `0.05`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def trade(report: Report, quality: Quality, across: Mapping[str, Measurement], title: str) -> Plot | None:
    """Quality against what it costs: a point for each target, and the line of those that no other beats in both."""
    numbers = {target.name: place for place, target in enumerate(report.targets, 1)}
    points = {
        name: (across[name].value, quality.values[name].value)
        for name in numbers
        if name in across and name in quality.values
    }
    if len(points) < 2:
        return None
    sign = -1 if quality.better == "higher" else 1
    best = front({name: (x, sign * y) for name, (x, y) in points.items()})
    line = sorted(points[name] for name in best)
    row = METRICS.if_usable(quality.metric)
    most = 1.0 if row is not None and row.limits.share else inf
    xs, ys = _around(x for x, _ in points.values()), _around((y for _, y in points.values()), most)
    chart = pygal.XY(
        stroke=False,
        xrange=xs,
        range=ys,
        x_title=title,
        y_title=quality.title,
        x_value_formatter=compact,
        value_formatter=compact,
        print_labels=True,
        **options(),
    )
    chart.add("front", line, stroke=True, show_dots=False)
    labels = _labels(points, numbers, xs, ys)
    for name, (x, y) in points.items():
        said = f"{numbers[name]} {printable(name)}: {title} {compact(x)}, {quality.title} {compact(y)}"
        chart.add(name, [{"value": (x, y), "label": labels[name], "formatter": lambda _, said=said: said}])
    svg = drawn(chart, f"{quality.title} against {title}", [0, *(numbers[name] for name in points)])
    named = ", ".join(str(numbers[name]) for name in best)
    which = "higher is better" if quality.better == "higher" else "lower is better"
    line_words = (
        f"The line joins those that no other beats in both: {named}."
        if len(best) > 1
        else f"No other beats {named} in both."
    )
    return Plot(svg, f"{quality.title} ({which}) against {title} (less is better). {line_words}")


def _around(values: Iterator[float], most: float = inf) -> tuple[float, float]:
    """The range of an axis: a little wider than the values; where these are alike, around them; to `most` at most."""
    found = sorted(values)
    low, high = found[0], found[-1]
    by = 0.12 * (high - low) or 0.02 * abs(high) or 1.0
    return low - by, min(high + by, max(most, high))


def _labels(
    points: Mapping[str, tuple[float, float]],
    numbers: Mapping[str, int],
    xs: tuple[float, float],
    ys: tuple[float, float],
) -> dict[str, str]:
    """A point's number; of points that lie together the leftmost has all of them, from the least to the greatest."""
    groups: dict[str, list[int]] = {}
    for name, (x, y) in sorted(points.items(), key=lambda each: each[1]):
        head = next(
            (
                each
                for each in groups
                if abs(points[each][0] - x) < _NEAR * (xs[1] - xs[0])
                and abs(points[each][1] - y) < _NEAR * (ys[1] - ys[0])
            ),
            None,
        )
        if head:
            groups[head].append(numbers[name])
        else:
            groups[name] = [numbers[name]]
    return {name: ", ".join(map(str, sorted(groups.get(name, ())))) for name in points}


def latencies(report: Report, device: str) -> Plot | None:
    """A box for each process, or each round of a phone, of every target."""
    colours, labels, boxes = [], [], []
    for number, target in enumerate(report.targets, 1):
        measured = next(
            (m for m in report.measurements if (m.target, m.metric, m.device) == (target.name, "latency_ms", device)),
            None,
        )
        parts = _parts(measured) if measured else []
        for at, part in enumerate(parts):
            boxes.append([quantile(part, share) for share in _BOX])
            colours.append(number)
            labels.append(str(number) if at == len(parts) // 2 else "")
    if not colours:
        return None
    least, most = min(box[0] for box in boxes), max(box[-1] for box in boxes)
    wide = 0 < least * _APART < most
    chart = pygal.Box(
        box_mode="extremes",
        y_title="ms",
        value_formatter=lambda value: f"{value:.4g}",
        logarithmic=wide,
        **({"zero": least, "range": (0.9 * least, 1.1 * most)} if wide else {"range": (0, 1.05 * most)}),
        **options(),
    )
    for number, box in zip(colours, boxes, strict=True):
        chart.add(str(number), box)
    chart.x_labels = labels
    svg = drawn(chart, f"latency on {device} of each process or round, by target", colours)
    caption = (
        f"One inference on {device}: a box is one process (of a phone, one round), from first to third quartile "
        "with the median; whiskers reach from the 5th to the 95th percentile."
    )
    return Plot(svg, f"{caption} The axis is logarithmic." if wide else caption)


def _parts(measured: Measurement) -> list[Sequence[float]]:
    form = in_our_words(measured.how)[0]
    found = processes_of(measured.samples, form) or rounds_of(measured.samples, form) or [measured.samples]
    return [part for part in found if len(part)]


def sizes(report: Report) -> Plot | None:
    """A bar for each file, as it is and packed."""
    files = [(f"{number}", each) for number, target in enumerate(report.targets, 1) for each in target.artifacts]
    if not files:
        return None
    chart = pygal.HorizontalBar(value_formatter=compact, **options(60 + 30 * len(files), legends=2))
    files.reverse()  # pygal begins at the bottom
    chart.x_labels = [name if each.kind == "model" else f"{name} {printable(each.kind)[:12]}" for name, each in files]
    chart.add("bytes", [each.size_bytes for _, each in files])
    chart.add("gzip -9", [each.gzip_bytes for _, each in files])
    return Plot(
        drawn(chart, "bytes of each file, as it is and packed by gzip -9"), "Bytes of each file, by target's number."
    )


def classes(report: Report, device: str) -> Plot | None:
    """How many instructions of which class an inference takes, on an emulated device."""
    counted = [
        (str(number), target.facts.emulated[device].counts)
        for number, target in enumerate(report.targets, 1)
        if device in target.facts.emulated
    ]
    by_class = [(number, counts.by_class) for number, counts in counted if counts is not None]
    if not by_class:
        return None
    totals: dict[str, int] = {}
    for _, found in by_class:
        for name, count in found.items():
            totals[name] = totals.get(name, 0) + count
    most = sorted(totals, key=lambda name: (-totals[name], name))[:_MOST_CLASSES]
    by_class.reverse()
    chart = pygal.HorizontalStackedBar(
        value_formatter=compact, **options(60 + 30 * len(by_class), legends=len(most) + 1)
    )
    chart.x_labels = [number for number, _ in by_class]
    for name in most:
        chart.add(printable(name), [found.get(name, 0) for _, found in by_class])
    if len(totals) > len(most):
        chart.add("others", [sum(count for name, count in found.items() if name not in most) for _, found in by_class])
    svg = drawn(chart, f"instructions of one inference on {device}, by class")
    return Plot(svg, f"Instructions of one inference on {device}, by class: exact counts.")


def layers(costs: Sequence[tuple[str, float]], title: str, caption: str) -> Plot | None:
    """A bar for each layer's SQNR, the worst first."""
    if not costs:
        return None
    worst = sorted(costs, key=lambda each: each[1])[:_MOST_ROWS]
    left = len(costs) - len(worst)
    worst.reverse()
    chart = pygal.HorizontalBar(value_formatter=compact, x_title="dB", **options(70 + 22 * len(worst)))
    chart.x_labels = [_short(name) for name, _ in worst]
    chart.add("SQNR dB", [{"value": value, "label": printable(name)} for name, value in worst])
    return Plot(drawn(chart, title), f"{caption}{f' {left} better ones are left out.' if left else ''}")


def _short(name: str, most: int = 22) -> str:
    name = printable(name)
    return name if len(name) <= most else f"…{name[1 - most :]}"


def gains(states: Sequence[State]) -> Plot | None:
    """What is left after each step, as a share of the model as given."""
    if len(states) < 2:
        return None
    first = states[0]
    chart = pygal.Bar(
        value_formatter=lambda value: f"{value:.0f} %",
        x_label_rotation=30,
        **options(300, legends=3 + len(first.runtimes), columns=2),
    )
    chart.x_labels = [_short(state.label) for state in states]
    for title, values in (
        ("MACs", [state.macs for state in states]),
        ("parameters", [state.parameters for state in states]),
        ("gzip of weights", [state.weights_gzip_bytes for state in states]),
    ):
        chart.add(title, [100 * value / max(values[0], 1) for value in values])
    for runtime in first.runtimes:
        times = [state.runtimes[runtime].latency_ms if runtime in state.runtimes else None for state in states]
        base = times[0] or 0.0
        if base:
            chart.add(f"ms in {runtime}", [None if value is None else 100 * value / base for value in times])
    return Plot(
        drawn(chart, "what is left after each step of [[compress]]"), "What is left, in % of the model as given."
    )


def steps(report: Report) -> Plot | None:
    """How long each lane's steps took."""
    timed = [step for step in report.steps if step.wall_s > 0]
    if not timed:
        return None
    numbers = {target.name: str(place) for place, target in enumerate(report.targets, 1)}
    rows: dict[str, str] = {}
    for step in timed:
        rows.setdefault(step.lane, "+".join(numbers.get(name, "all") for name in step.lane.split("+")))
    lanes = list(rows)[::-1]
    chart = pygal.HorizontalStackedBar(
        value_formatter=lambda value: f"{value:.4g} s",
        **options(60 + 26 * len(lanes), legends=len({step.stage for step in timed})),
    )
    chart.x_labels = [_short(rows[lane], 9) for lane in lanes]
    in_order = sorted(timed, key=lambda step: list(dict.fromkeys(each.stage for each in timed)).index(step.stage))
    for stage, found in groupby(in_order, key=lambda step: step.stage):
        spent: dict[str, float] = {}
        for step in found:
            spent[step.lane] = spent.get(step.lane, 0.0) + step.wall_s
        chart.add(stage, [spent.get(lane) for lane in lanes])
    return Plot(
        drawn(chart, "wall seconds of each lane's steps"),
        "Wall seconds of each lane's steps, by target's number; a reused step has those of the run that made it.",
    )
