"""A metric over commits as a page of the report's kind: one file that loads and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.history.entry import date
from pocketforge.history.trend import Line
from pocketforge.report.page import rendered
from pocketforge.report.page.parts import Cell, Page, Plot, Section, Tone, table
from pocketforge.report.page.plots import compact
from pocketforge.report.page.pygal_alone import pygal
from pocketforge.report.page.svg import drawn, options
from pocketforge.report.trend import basis, between, change_words, commit_of, ended, figure, interval_words
from pocketforge.streams import printable

_TONES: dict[bool | None, Tone] = {True: "bad", False: "good", None: "near"}
# Labels below a plot that can be read beside each other.
_MOST_LABELS = 4
# Distances of such values are no numbers.
_BEYOND = 1e300


def write(lines: Sequence[Line]) -> str:
    """The page of one metric's lines; at least one."""
    return rendered(_page(lines))


def _page(lines: Sequence[Line]) -> Page:
    changes = sum(len(line.changes) for line in lines)
    count = len(lines)
    builds = len({point.build.id for line in lines for point in line.points})
    return Page(
        title=lines[0].metric,
        verdict=f"{changes or 'no'} change{'' if changes == 1 else 's'}",
        tone="near" if changes else "good",
        summary=f"{count} line{'s' * (count != 1)} of {builds} build{'s' * (builds != 1)}, each of one recipe, target, "
        "device and kind of host.",
        targets=(),
        sections=(_changes(lines), *(_line(line, number) for number, line in enumerate(lines, 1))),
        kind="Pocketforge trend",
        made_from="a history of builds",
    )


def _changes(lines: Sequence[Line]) -> Section:
    rows: list[tuple[str | Cell, ...]] = [
        (line.words, between(line, change), Cell(change_words(line, change), tone=_TONES[line.is_worse(change)]))
        for line in lines
        for change in line.changes
    ]
    if not rows:
        return Section("changes", "Changes", ("None in any line.",))
    shown = table("What changed, and between which builds", ("of", "between", "change"), rows)
    return Section("changes", "Changes", tables=(shown,))


def _line(line: Line, number: int) -> Section:
    changed = {change.at for change in line.changes}
    unit = f" {line.unit}" if line.unit else ""
    rows: list[tuple[str | Cell, ...]] = []
    for at, point in enumerate(line.points):
        build = point.build
        note = "changed" if at in changed else point.note
        when = date(build.built_s if build.commit_s is None else build.commit_s)
        rows.append(
            (
                Cell(commit_of(build), build.branch, code=True),
                when,
                figure(point.value.value),
                interval_words(point),
                Cell(point.value.sha256[:12], code=True),
                build.host,
                note,
            )
        )
    heads = ("commit", "committed or built, UTC", f"value{unit}", "95 % interval", "file's SHA-256", "host", "")
    said = [f"{basis(line)[0].upper()}{basis(line)[1:]}."]
    if line.left_out:
        said.append(f"{line.left_out} builds before these were not looked at.")
    if line.later:
        said.append(f"{ended(line)}.")
    plotted = all(abs(point.value.value) < _BEYOND for point in line.points)
    if not plotted:
        said.append("There is no plot: a value is too great for one.")
    every = table(f"Every build of {line.words}", heads, rows, f"value{unit}")
    return Section(
        f"line-{number}", line.words, tuple(said), tables=(every,), folded=True,
        plots=(_plot(line),) if plotted else (),
    )  # fmt: skip


def _plot(line: Line) -> Plot:
    """A dot for each build, and the levels between changes."""
    names = [commit_of(point.build) for point in line.points]
    values = [point.value.value for point in line.points]
    low, high = min(values), max(values)
    around = 0.12 * (high - low) or 0.02 * abs(high) or 1.0
    chart = pygal.XY(
        stroke=False, xrange=(-0.5, len(values) - 0.5), range=(low - around, high + around),
        y_title=line.unit or line.metric, value_formatter=compact,
        x_value_formatter=lambda at: names[round(at)] if 0 <= round(at) < len(names) else "",
        **options(),
    )  # fmt: skip
    every = max(1, -(-len(names) // _MOST_LABELS))
    chart.x_labels = list(range(0, len(names), every))
    for start, end, height in line.levels:
        chart.add("level", [(start - 0.4, height), (end - 0.6, height)], stroke=True, show_dots=False)
    said = [f"{printable(name)}: {figure(value)}" for name, value in zip(names, values, strict=True)]
    dots = [
        {"value": place, "formatter": lambda _, words=words: words}
        for place, words in zip(enumerate(values), said, strict=True)
    ]
    chart.add("builds", dots)
    svg = drawn(chart, f"{line.metric} of {line.words}, by commit", [*(0 for _ in line.levels), 1])
    level = " The lines are the levels between changes." if line.levels else ""
    better = f" ({line.better} is better)" if line.better else ""
    return Plot(svg, f"{line.metric}{better} of each build, from the first commit to the last.{level}")
