"""Percentiles of latency samples and how far they can be trusted. Standard library only.

The interval of a percentile is the binomial order-statistic interval (Conover, Practical Nonparametric
Statistics, 3rd ed., section 3.2): it assumes nothing about the distribution, which timings need, as their
tails are long. Consecutive timings are not independent (clock changes, other tenants), so the sample count is
first shrunk to an effective one by the lag-1 autocorrelation r: n (1 - r) / (1 + r).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

# Two-sided 95 % quantiles of Student's t for 1, 2, 3 … degrees of freedom; with more, the last one (a little too wide).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
# One-sided 99 % quantiles of the same: what one side of a comparison may be wrong by is 1 %.
_T99_ONE_SIDED = (
    31.821, 6.965, 4.541, 3.747, 3.365, 3.143, 2.998, 2.896, 2.821, 2.764,
    2.718, 2.681, 2.650, 2.624, 2.602, 2.583, 2.567, 2.552, 2.539, 2.528,
)  # fmt: skip
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
# As a fraction: two sittings on one machine, each steady in itself, lie so far apart (docs/benchmarks.md, A/A); and so
# much more where other programs had all of its processors, in proportion where they had a share of them.
SITTINGS_APART = 0.01
BESIDE_OTHERS = 0.25


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with a two-sided confidence interval.

    Attributes:
        value: The estimate.
        low: Lower end; -infinity where the samples cannot bound it.
        high: Upper end; infinity where the samples cannot bound it.
    """

    value: float
    low: float
    high: float


def t95(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t; over 20 degrees of freedom that of 20, a little too wide."""
    return _T95[min(degrees, len(_T95)) - 1]


def t99_one_sided(degrees: int) -> float:
    """The one-sided 99 % quantile of Student's t; over 20 degrees of freedom that of 20, a little too wide."""
    return _T99_ONE_SIDED[min(degrees, len(_T99_ONE_SIDED)) - 1]


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval (Student's t); one value bounds nothing. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    half = t95(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def geometric_interval(values: Sequence[float]) -> Interval:
    """The same for ratios: a geometric mean, with the interval taken on the logarithms."""
    logs = mean_interval([math.log(value) for value in values])
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def quantile(samples: Sequence[float], q: float) -> float:
    """The q-quantile, linear between order statistics (as numpy's default). Raises ValueError on no samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def percentile(samples: Sequence[float], name: str) -> float:
    """`min`, `p50`, `p90` or `p99` of the samples."""
    return min(samples) if name == "min" else quantile(samples, PERCENTILES[name])


def effective_count(samples: Sequence[float]) -> float:
    """How many independent samples these are worth (at least 2, at most all of them)."""
    n = len(samples)
    if n < 3:
        return float(n)
    # Ranks, not values: one long outlier would otherwise drown the correlation.
    ranks = _ranks(samples)
    mean = fmean(ranks)
    apart = [rank - mean for rank in ranks]
    spread: float = sum(map(operator.mul, apart, apart))
    if spread == 0:
        return float(n)
    lag1: float = sum(map(operator.mul, apart, apart[1:])) / spread
    lag1 = min(max(lag1, 0.0), 0.99)
    return max(2.0, n * (1 - lag1) / (1 + lag1))


def _ranks(samples: Sequence[float]) -> list[float]:
    """Each sample's place in order; equal ones (a coarse clock's) share the mean of their places."""
    places: dict[float, float] = {}
    below = 0
    for value, alike in itertools.groupby(sorted(samples)):
        count = len(tuple(alike))
        places[value] = below + (count - 1) / 2
        below += count
    return [places[sample] for sample in samples]


def percentile_interval(samples: Sequence[float], name: str, confidence: float = 0.95) -> Interval:
    """A percentile with its interval. `min` is what was seen: its interval is the value itself."""
    value = percentile(samples, name)
    if name == "min":
        return Interval(value, value, value)
    q = PERCENTILES[name]
    ordered = sorted(samples)
    n = len(ordered)
    effective = effective_count(samples)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(q * (1 - q) / effective)
    low_rank = math.floor(n * (q - half)) - 1
    high_rank = math.ceil(n * (q + half))
    low = ordered[low_rank] if low_rank >= 0 else -math.inf
    high = ordered[high_rank] if high_rank < n else math.inf
    return Interval(value, min(low, value), max(high, value))


def round_interval(rounds: Sequence[Sequence[float]], name: str) -> Interval:
    """A percentile of all samples, with the 95 % interval that its values in two or more rounds leave (Student's t on
    their logarithms).

    Samples of one round share its clock and its neighbours: between rounds is where a phone's time differs, and as many
    samples as one likes of one round do not show it. Raises ValueError without samples.
    """
    spread = geometric_interval([percentile(samples, name) for samples in rounds])
    value = percentile([ms for samples in rounds for ms in samples], name)
    return Interval(value, value * spread.low / spread.value, value * spread.high / spread.value)


def sittings_apart(others: float) -> float:
    """How far two sittings lie apart, as a fraction. others: the share of the processors that other programs had."""
    return SITTINGS_APART + BESIDE_OTHERS * others


def process_interval(processes: Sequence[Sequence[float]], name: str, others: float = 0.0) -> Interval:
    """A percentile of all samples of several processes, and where the file's own may be: the widest of four intervals.

    Each sees what the others cannot. Between processes (`round_interval`): memory lies elsewhere in each. Of all
    samples (`percentile_interval`): a tail of few has no bound. Of stretches of a process (`stretch_range`): neighbours
    on a shared machine come and go, and are with all processes of a short sitting, or with none, by chance. Around the
    value, `sittings_apart(others)`: what is the same all through a sitting is in none of these.
    One process bounds nothing. Raises ValueError without samples.
    """
    between = round_interval(processes, name)
    within = percentile_interval([ms for samples in processes for ms in samples], name)
    low, high = stretch_range(processes, name)
    value, apart = between.value, 1 + sittings_apart(others)
    return Interval(
        value,
        min(between.low, within.low, low, value / apart),
        max(between.high, within.high, high, value * apart),
    )


def stretch_range(processes: Sequence[Sequence[float]], name: str) -> tuple[float, float]:
    """The least percentile of a short stretch of consecutive samples, and the largest of a quarter of a process.

    A neighbour only slows. A moment without one is short where he is busy, and shows what the file takes by itself: no
    FAIL for him. That he slows some samples of a process is no news; a slow quarter says that he may slow a whole one.
    """
    # So many samples that a few are beyond the percentile.
    shortest = math.ceil(5 / (1 - PERCENTILES.get(name, 0.0)))
    counts = [(part, len(part) // shortest) for part in processes]
    short = [stretch for part, count in counts for stretch in _stretches(part, count)]
    quarters = [stretch for part, count in counts for stretch in _stretches(part, min(count, 4))]
    return min(percentile(stretch, name) for stretch in short), max(percentile(q, name) for q in quarters)


def _stretches(samples: Sequence[float], count: int) -> list[Sequence[float]]:
    """The samples in order, in `count` parts of about equal length; in one where none would fit."""
    count = max(count, 1)
    ends = [len(samples) * number // count for number in range(count + 1)]
    return [samples[start:end] for start, end in itertools.pairwise(ends)]


def rounds_needed(rounds: Sequence[Sequence[float]], name: str, limit: float) -> int | None:
    """About how many rounds would settle whether the percentile is under `limit`; None if a thousand would not."""
    logs = [math.log(percentile(samples, name)) for samples in rounds]
    value = round_interval(rounds, name).value
    distance, spread = abs(math.log(value / limit)), stdev(logs)
    return next((n for n in range(len(rounds) + 1, 1001) if t95(n - 1) * spread / math.sqrt(n) < distance), None)


def samples_needed(samples: Sequence[float], name: str, limit: float, confidence: float = 0.95) -> int | None:
    """About how many samples would settle whether the percentile is under `limit`; None if none would.

    The distance in probability between the percentile and the limit must exceed the interval's half width:
    n >= z² q (1 - q) / d², times the samples spent for each independent one.
    """
    if name == "min" or not samples:
        return None
    q = PERCENTILES[name]
    below = sum(s <= limit for s in samples) / len(samples)
    distance = abs(below - q)
    if distance < 1 / (10 * len(samples)):
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    independent = z * z * q * (1 - q) / distance**2
    needed = math.ceil(independent * len(samples) / effective_count(samples))
    return max(needed, len(samples) + 1)


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """after ÷ before: geometric mean over paired rounds, and its 95 % interval (Student's t on the logarithms).

    With one round the interval is (0, inf). Raises ValueError when the rounds are not paired.
    """
    interval = geometric_interval([a / b for b, a in zip(before, after, strict=True)])
    return interval.value, interval.low, interval.high


def runs_ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[Interval, float]:
    """after ÷ before, of geometric means over unpaired runs, with a 98 % interval (each side is wrong in 1 %), and the
    spread of runs that it stands on: the standard deviation of their logarithms, pooled.

    Student's t of two samples whose spread is taken to be one: so that one new run can be held against several old.
    Raises ValueError with fewer than three runs: they have no spread.
    """
    degrees = len(before) + len(after) - 2
    if degrees < 1 or not before or not after:
        raise ValueError("a spread is of three runs or more")
    logs = [[math.log(value) for value in side] for side in (before, after)]
    means = [fmean(side) for side in logs]
    squares = sum((value - mean) ** 2 for side, mean in zip(logs, means, strict=True) for value in side)
    spread = math.sqrt(squares / degrees)
    half = t99_one_sided(degrees) * spread * math.sqrt(1 / len(before) + 1 / len(after))
    middle = means[1] - means[0]
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half)), spread


def runs_to_decide(distance: float, spread: float) -> int | None:
    """How many runs on each side would settle on which side of a bound a ratio is; None if a thousand would not.

    distance: between the logarithms of the ratio and of the bound. spread: of the logarithms of runs.
    """
    enough = (n for n in range(2, 1001) if t99_one_sided(2 * n - 2) * spread * math.sqrt(2 / n) < distance)
    return next(enough, None)
