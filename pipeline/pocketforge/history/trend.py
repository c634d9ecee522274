"""What became of a metric: lines of values over commits, with the places where their level changed.

A line is of one recipe, target, device and condition: another kind of host, another number of threads or another core
begins another line, and so do another unit and another direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pocketforge.history.changes import EFFECT, EXACT_EFFECT, Change, exact_changes, noisy_changes
from pocketforge.history.entry import Build, Value

# So many builds of a line are looked at.
LAST = 500


@dataclass(frozen=True, slots=True)
class Point:
    """A build's value in a line.

    Attributes:
        build: The build.
        value: What it has.
        reused: Whether the timing is an earlier build's, reused: it says nothing new.
    """

    build: Build
    value: Value
    reused: bool

    @property
    def counts(self) -> bool:
        """Whether it says something of its level."""
        return not (self.reused or self.value.doubt)

    @property
    def note(self) -> str:
        return "doubtful" if self.value.doubt else "reused" if self.reused else ""


@dataclass(frozen=True, slots=True)
class Line:
    """Values of one metric that may be held against each other, from the first commit to the last.

    Attributes:
        recipe: Its recipe's name.
        metric: Its name.
        unit: The metric's.
        target: The target.
        device: The device; empty for what is of none.
        via: The kind of device.
        conditions: What all were taken under, in words; empty for what hangs on nothing.
        better: Which values are: "lower", "higher", or empty.
        noisy: Whether a second run may give another value.
        effect: The least change that is told, as a share.
        points: In the order of commits; builds of no known commit by when they were built.
        changes: `at` is an index of points.
        left_out: How many earlier builds were not looked at.
        later: How many builds of its recipe are later than its last one, and have no such value of these conditions.
    """

    recipe: str
    metric: str
    unit: str
    target: str
    device: str
    via: str
    conditions: str
    better: str
    noisy: bool
    effect: float
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    left_out: int
    later: int

    @property
    def levels(self) -> tuple[tuple[int, int, float], ...]:
        """From which point to which (that one is not in it), and the level: of what is exact as it was at first."""
        ends = [*(change.at for change in self.changes), len(self.points)]
        values = [self.changes[0].before, *(change.after for change in self.changes)] if self.changes else []
        return tuple(zip([0, *ends[:-1]], ends, values, strict=True)) if values else ()

    @property
    def words(self) -> str:
        """Of what it is, in words."""
        where = f" on {self.device}" if self.device else ""
        return f"{self.recipe} {self.target}{where}" + (f" ({self.conditions})" if self.conditions else "")

    def is_worse(self, change: Change) -> bool | None:
        """Whether a change is for the worse; None where nobody knows which is."""
        return None if not self.better else (change.after > change.before) == (self.better == "lower")


def lines_of(
    found: Iterable[tuple[Build, Value]], effect: float | None = None, last: int = LAST, among: Sequence[Build] = ()
) -> list[Line]:
    """Values of one metric, as lines.

    effect: the least change to tell, as a share; None for what suits the metric. last: how many builds of a line to
    look at, since PELT takes the square of their number. among: all builds that the values are looked for in, to tell
    that a line has ended.
    """
    groups: dict[tuple[str, ...], list[tuple[Build, Value]]] = {}
    for build, value in found:
        key = (build.recipe, value.target, value.device, value.via, value.conditions, value.unit, value.better)
        groups.setdefault(key, []).append((build, value))
    return [_line(groups[key], effect, last, among) for key in sorted(groups)]


def _line(found: list[tuple[Build, Value]], effect: float | None, last: int, among: Sequence[Build]) -> Line:
    found = sorted(found, key=lambda each: _order(each[0]))
    end = found[-1][0]
    later = sum(each.recipe == end.recipe and _order(each) > _order(end) for each in among)
    left_out, found = max(len(found) - last, 0), found[-last:]
    build, first = found[0]
    noisy = any(value.noisy for _, value in found)
    seen: set[str] = set()
    points = []
    for each, value in found:
        points.append(Point(each, value, value.noisy and value.evidence in seen))
        seen.add(value.evidence)
    least = effect if effect is not None else EFFECT if noisy else EXACT_EFFECT
    told = [at for at, point in enumerate(points) if point.counts]
    values = [points[at].value.value for at in told]
    changes = (noisy_changes if noisy else exact_changes)(values, least)
    return Line(
        build.recipe, first.metric, first.unit, first.target, first.device, first.via, first.conditions, first.better,
        noisy, least, tuple(points), tuple(Change(told[c.at], c.before, c.after, c.effect) for c in changes), left_out,
        later,
    )  # fmt: skip


def _order(build: Build) -> tuple[int, str, int, int]:
    # A commit's time is to the second, and builds of it are in the order in which they were made.
    at = build.built_s if build.commit_s is None else build.commit_s
    return at, build.commit, build.built_s, build.id
