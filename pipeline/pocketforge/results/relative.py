"""One metric of one file against the same in a baseline: by which factor it changed, and how sure that is. Pure.

Counts and sizes are exact. What was timed is judged by runs where three or more of both sides together are there
(Student's t of two samples, on logarithms), else by the interval that each side has of itself. Each end of the
interval is wrong in at most 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist, fmean

from pocketforge.recipe import METRICS
from pocketforge.recipe.metric import Better
from pocketforge.records import HowCompared, HowCounted, HowEstimated, HowHere, HowOnThePhone, Measurement
from pocketforge.results.latency import latency_interval
from pocketforge.results.plugin_words import in_our_words
from pocketforge.stats import Interval, runs_ratio_interval, runs_to_decide

# From the half of a 95 % interval to a standard deviation, and from there to the half of a 98 % one.
_Z95, _Z98 = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one metric.

    Attributes:
        before: Its value in the baseline; of several runs their geometric mean.
        after: Its value now.
        ratio: after ÷ before, with its 98 % interval; low and high are the value itself of what is exact.
        spread: Standard deviation of the logarithms of runs; 0 of what is exact.
        basis: What the interval stands on, in words.
    """

    before: float
    after: float
    ratio: Interval
    spread: float
    basis: str

    @property
    def exact(self) -> bool:
        return self.ratio.low == self.ratio.high


def worst_allowed(before: float, better: Better, max_regression: float) -> Fraction:
    """The value that a budget on a regression still keeps. Exact in what the decimals say: 5 % of 20 is 1."""
    share = Fraction(repr(max_regression))
    return Fraction(repr(before)) * (1 + share if better == "lower" else 1 - share)


def check_alike(before: Sequence[Measurement], after: Sequence[Measurement]) -> None:
    """Raises ValueError, with why, where the values of two sides do not tell one file from the other."""
    fault = next(filter(None, (_unlike(each, after[-1]) for each in (*before, *after))), "")
    if fault:
        raise ValueError(fault)


def change_of(before: Sequence[Measurement], after: Sequence[Measurement], percentile: str) -> Change:
    """Of one metric, target and device, in one or more runs of each side. percentile: of a latency's samples.

    Raises ValueError, with why, where the two cannot be compared.
    """
    check_alike(before, after)
    one, two = ([interval_of(each, percentile) for each in _runs(side)] for side in (before, after))
    if all(each.low == each.high for each in (*one, *two)) and not is_timed(after[-1]):
        old, new = one[-1].value, two[-1].value
        if {each.value for each in one} != {old} or {each.value for each in two} != {new}:
            raise ValueError("runs of the same file give different values, though nothing of it is timed")
        ratio = new / old if old > 0 else math.inf
        return Change(old, new, Interval(ratio, ratio, ratio), 0.0, "exact")
    values = [[each.value for each in side] for side in (one, two)]
    if min(map(min, values)) <= 0:
        raise ValueError("a value of 0 has no ratio")
    old, new = (math.exp(fmean(map(math.log, side))) for side in values)
    if len(one) + len(two) > 2:
        interval, spread = runs_ratio_interval(*values)
        return Change(old, new, interval, spread, f"{len(one)} runs before, {len(two)} now")
    return _by_own_intervals(one[0], two[0])


def runs_that_decide(change: Change, bound: float) -> int | None:
    """About how many runs of each side would settle on which side of `bound` the ratio is; None if none would."""
    distance = abs(math.log(change.ratio.value) - math.log(bound)) if bound > 0 else math.inf
    known = change.spread if math.isfinite(change.spread) else None
    return None if known is None or distance == 0 else runs_to_decide(distance, known)


def _by_own_intervals(one: Interval, two: Interval) -> Change:
    halves = []
    for each in (one, two):
        low, high = max(each.low, 0.0), each.high
        below = math.log(each.value / low) if low > 0 else math.inf
        halves.append((below, math.log(high / each.value) if high < math.inf else math.inf))
    widen = _Z98 / _Z95
    ratio = two.value / one.value
    # The ratio is low where the new value is low or the old one high.
    down = widen * math.hypot(halves[1][0], halves[0][1])
    up = widen * math.hypot(halves[1][1], halves[0][0])
    spread = max(down, up) / _Z98 / math.sqrt(2)
    interval = Interval(ratio, ratio * math.exp(-down), ratio * math.exp(up) if up < math.inf else math.inf)
    return Change(one.value, two.value, interval, spread, "one run before, one now, each with its own interval")


def _runs(side: Sequence[Measurement]) -> list[Measurement]:
    """Each timing once: a build that reuses a stored one reports it again, and two of it say no more than one."""
    return [each for place, each in enumerate(side) if not is_timed(each) or each not in side[:place]]


def is_timed(measurement: Measurement) -> bool:
    """Whether a second run may give another value, of the same file in the same place."""
    row = METRICS.if_usable(measurement.metric)
    timed = row is not None and row.place == "timed"  # also of a plug-in's device, in whatever words
    return timed or bool(measurement.samples) or isinstance(measurement.how, HowHere | HowOnThePhone | HowEstimated)


def interval_of(measurement: Measurement, percentile: str) -> Interval:
    """Where one run's value may be; without bounds of what is timed once."""
    value, how = measurement.value, measurement.how
    if measurement.samples:
        found = latency_interval(measurement.samples, how, percentile)
        if percentile == "min" and found.low == found.high:  # what was seen, not where another run's would be
            return Interval(found.value, -math.inf, math.inf)
        floor = 1 + how.noise_floor if isinstance(how, HowOnThePhone) else 1.0
        return Interval(found.value, min(found.low, found.value / floor), max(found.high, found.value * floor))
    if isinstance(how, HowHere) and measurement.metric in ("load_ms", "peak_rss_bytes"):
        parts = [getattr(process, measurement.metric) for process in how.processes]
        if len(parts) > 1:
            return Interval(value, min(parts), max(parts))
    if isinstance(how, HowEstimated):
        return Interval(value, *how.interval)
    if is_timed(measurement):
        return Interval(value, -math.inf, math.inf)
    return Interval(value, value, value)


def doubt_of(measurement: Measurement) -> str:
    """Why a value settles nothing by itself, as devices say it, those of plug-ins too; empty where it does."""
    forms = in_our_words(measurement.how)
    return next((f.reason for f in forms if isinstance(f, HowOnThePhone | HowCounted) and not f.conclusive), "")


def _unlike(before: Measurement, after: Measurement) -> str:
    """Why two values do not tell one file from the other; empty where they do."""
    doubt = doubt_of(before) or doubt_of(after)
    if doubt:
        return doubt
    if not (math.isfinite(before.value) and math.isfinite(after.value)):
        return f"{before.value} before and {after.value} now: one is no number"
    pairs = [("via", before.via, after.via)]
    there, now = conditions_of(before), conditions_of(after)
    pairs += [(what, there[what], now[what]) for what in there if what in now]
    return "; ".join(f"{what} is another: {old} before, {new} now" for what, old, new in pairs if old != new)


def kind_of_host(host: str) -> str:
    """A host without its own name, which stands first: a container has another at each build, and machines of one kind
    are held against each other, in trends and by budgets."""
    name, _, kind = host.partition(" ")
    return kind or name


def conditions_of(measurement: Measurement) -> dict[str, str]:
    """What a value was taken under, and without which in common two say nothing of two files: by name, in words."""
    how = measurement.how
    found: dict[str, object] = {}
    if isinstance(how, HowHere):
        found = {"the processor": kind_of_host(how.host), "threads": how.threads}
    elif isinstance(how, HowCounted):
        found = {"the emulated processor": how.cpu}
    elif isinstance(how, HowOnThePhone):
        found = {what: getattr(how, what) for what in ("cores", "cpus", "threads")}
    elif isinstance(how, HowEstimated):
        found = {"the core": how.core, "the core's model": how.model_version}
    elif isinstance(how, HowCompared):
        found = {"eval samples": how.samples}
    return {what: str(value) for what, value in found.items()}
