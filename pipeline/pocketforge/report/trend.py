"""What a history has, in the terminal: builds, and what became of a metric."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.history.changes import RUNS, Change
from pocketforge.history.entry import Build, date
from pocketforge.history.trend import Line, Point
from pocketforge.report.tables import console, table, words

_BARS = "▁▂▃▄▅▆▇█"
# So many values fit beside each other.
_MOST = 60
_COLOURS = {"PASS": "green", "FAIL": "red", "ERROR": "red"}


def figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.6g}"


def commit_of(build: Build) -> str:
    """A commit in few letters, with a + where its files had been changed; of none the build's number."""
    return f"{build.commit[:9]}{'+' if build.dirty else ''}" if build.commit else f"build {build.id}"


def interval_words(point: Point) -> str:
    value = point.value
    if value.low == value.high == value.value:
        return ""
    low, high = ("?" if end is None else figure(end) for end in (value.low, value.high))
    return f"{low} to {high}"


def change_words(line: Line, change: Change) -> str:
    """What a change was, and which side of it is better."""
    by = f"{change.effect:+.2%}, " if change.effect is not None else ""
    worse = line.is_worse(change)
    judged = "" if worse is None else ", worse" if worse else ", better"
    return f"{by}{figure(change.before)} → {figure(change.after)}{' ' + line.unit if line.unit else ''}{judged}"


def between(line: Line, change: Change) -> str:
    """The builds that a change lies between."""
    first, then = line.points[change.at - 1].build, line.points[change.at].build
    return f"{commit_of(first)} and {commit_of(then)}"


def basis(line: Line) -> str:
    """What was told as a change."""
    if not line.noisy:
        return f"exact: told is each change of {line.effect:.2%} or more"
    runs = sum(point.counts for point in line.points)
    return f"{runs} timings: told are changes of {line.effect:.2%} or more, with {RUNS} timings or more on each side"


def ended(line: Line) -> str:
    """That the last builds have no such value; empty where the last one has."""
    one = line.later == 1
    said = f"{line.later} later build{' of its recipe is' if one else 's of its recipe are'} not in this line: "
    return f"{said}without such a value, or of other conditions" if line.later else ""


def spark(values: Sequence[float]) -> str:
    """The last values as bars, from the least to the greatest."""
    shown = values[-_MOST:]
    low, high = min(shown), max(shown)
    apart = high / 2 - low / 2  # the greatest number less the least is none
    if apart == 0:
        return _BARS[3] * len(shown)
    shares = ((value / 2 - low / 2) / apart for value in shown)
    return "".join(_BARS[min(int(share * len(_BARS)), len(_BARS) - 1)] for share in shares)


def show_builds(builds: Sequence[Build], place: str) -> None:
    """A table of builds. place: of the history, as its title; empty for none."""
    screen = console()
    rows = table(f"{place}: no builds" if place and not builds else place, "build", "recipe", "verdict", "commit",
                 "branch", "committed or built, UTC", "host", numbers=("build",))  # fmt: skip
    for each in builds:
        when = date(each.built_s if each.commit_s is None else each.commit_s)
        verdict = words((each.verdict, _COLOURS.get(each.verdict, "")))
        rows.add_row(str(each.id), each.recipe, verdict, commit_of(each) if each.commit else "", each.branch, when,
                     each.host)  # fmt: skip
    screen.print(rows)
    if any(each.dirty for each in builds):
        screen.print("+ files of the commit had been changed")


def show_trend(lines: Sequence[Line], rows: int) -> None:
    """Each line as bars, its changes, and its last builds. rows: how many of these at most."""
    screen = console()
    branches = sorted({point.build.branch for line in lines for point in line.points if point.build.branch})
    for line in lines:
        values = [point.value.value for point in line.points]
        screen.print(words((f"{line.metric} of {line.words}", "bold")))
        screen.print(f"{spark(values)}  {figure(min(values))} to {figure(max(values))} {line.unit}".rstrip())
        for change in line.changes:
            screen.print(
                words(("changed", "yellow"), f" between {between(line, change)}: {change_words(line, change)}")
            )
        said = "no change" if not line.changes else f"{len(line.changes)} change{'s' * (len(line.changes) > 1)}"
        screen.print(f"{said} ({basis(line)})")
        screen.print(_points(line, rows))
        if len(line.points) > rows:
            screen.print(f"{len(line.points) - rows} earlier ones are not shown (--rows)")
        if line.left_out:
            screen.print(f"{line.left_out} builds before these were not looked at (--last)")
        if line.later:
            screen.print(ended(line))
        screen.print("")
    if len(branches) > 1:
        screen.print(f"builds of {len(branches)} branches are in these lines ({', '.join(branches)}): --branch NAME")


def _points(line: Line, most: int) -> object:
    title = f"value {line.unit}" if line.unit else "value"
    rows = table("", "commit", "UTC", "branch", title, "95 % interval", "", numbers=(title,))
    changed = {change.at for change in line.changes}
    for at, point in list(enumerate(line.points))[-most:]:
        build = point.build
        note = "changed" if at in changed else point.note
        rows.add_row(commit_of(build), date(_when(build)), build.branch, figure(point.value.value),
                     interval_words(point), note)  # fmt: skip
    return rows


def _when(build: Build) -> int:
    return build.built_s if build.commit_s is None else build.commit_s
