"""Where a line of values changed its level.

What is exact (sizes, counts, scores) changes where two values differ. Where one run differs from the next anyway
(times), ruptures' PELT (Killick et al. 2012; l2 on logarithms) proposes where the level changed, and a proposal is
taken only if a t-test of the two levels says so at 1 %, divided by the number of places that PELT had to choose from,
and if they lie apart by the smallest effect that matters. `python benchmarks/trends.py` has its false alarms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

# The least change that is told, as a share: of what is timed, and of what is exact.
EFFECT, EXACT_EFFECT = 0.01, 0.001
# So many runs make a level; fewer may be the machine's mood.
RUNS = 3
_ALPHA = 0.01
# In standard deviations of a run.
_LONE = 2.5


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a level.

    Attributes:
        at: Index of the first value of the new level.
        before: The level before; of what is timed a geometric mean.
        after: The new level.
        effect: after ÷ before - 1; None where before is 0 or less, or that is beyond any number.
    """

    at: int
    before: float
    after: float
    effect: float | None


def exact_changes(values: Sequence[float], effect: float = EXACT_EFFECT) -> list[Change]:
    """Each value that differs from the level before it by the share `effect` or more; of a level of 0, by anything."""
    found: list[Change] = []
    level = values[0] if values else 0.0
    for at, value in enumerate(values):
        if value != level and (level == 0 or abs(value - level) >= effect * abs(level)):
            found.append(Change(at, level, value, _share(level, value)))
            level = value
    return found


def noisy_changes(values: Sequence[float], effect: float = EFFECT) -> list[Change]:
    """Of positive values that vary from run to run. Fewer than two levels' worth of runs have no change."""
    if len(values) < 2 * RUNS or min(values) <= 0:
        return []
    seen = [math.log(value) for value in values]
    logs = _without_lone_ones(seen)
    ends = _proposed(logs)
    while len(ends) > 1:
        # The least sure goes first: what is left of its two sides is one level, and the others are judged anew.
        chances = [max(both) for both in zip(_chances(logs, ends), _chances_by_rank(seen, ends), strict=True)]
        worst = max(range(len(chances)), key=chances.__getitem__)
        if chances[worst] <= _ALPHA:
            break
        del ends[worst]
    levels = [math.exp(fmean(logs[start:end])) for start, end in itertools.pairwise([0, *ends])]
    found = [
        Change(end, before, after, _share(before, after))
        for end, (before, after) in zip(ends, itertools.pairwise(levels), strict=False)
    ]
    return [each for each in found if each.effect is None or abs(each.effect) >= effect]


def _share(before: float, after: float) -> float | None:
    share = after / before - 1 if before > 0 else math.inf
    return share if math.isfinite(share) else None


def _spread(logs: Sequence[float]) -> float:
    """Standard deviation of a run, from neighbours' differences: a change is in one of them, and the median passes it
    by. 0 only where all are alike."""
    apart = [abs(after - before) for before, after in itertools.pairwise(logs)]
    # Of values that are mostly alike to the bit, as of a coarse clock, the median says nothing.
    return (median(apart) / 0.6745 or stdev([*apart, *(-each for each in apart)])) / math.sqrt(2)


def _without_lone_ones(logs: Sequence[float]) -> list[float]:
    """Each at most so far from the median of its neighbours (Hampel's filter): one or two slow runs are no level, and
    would hide one. What RUNS runs have in common stays."""
    spread = _LONE * _spread(logs)
    kept = []
    for at, value in enumerate(logs):
        # Of as many on both sides: at the ends the first or last ones of all.
        first = min(max(at - RUNS + 1, 0), len(logs) - 2 * RUNS + 1)
        middle = median(logs[first : first + 2 * RUNS - 1])
        kept.append(min(max(value, middle - spread), middle + spread))
    return kept


def _proposed(logs: Sequence[float]) -> list[int]:
    """Where segments end, the last one's end with them."""
    import numpy as np
    import ruptures

    penalty = _spread(logs) ** 2 * 3 * math.log(len(logs))
    if penalty == 0:
        return [len(logs)]
    ends: list[int] = ruptures.Pelt(model="l2", min_size=RUNS, jump=1).fit(np.asarray(logs)).predict(pen=penalty)
    return ends


def _chances(logs: Sequence[float], ends: Sequence[int]) -> list[float]:
    """How likely each two levels beside each other lie so far apart by chance, at the best of all places that they
    might have met.

    Student's t, whose runs count for fewer where neighbours are alike (stats.effective_count has the reason).
    """
    from scipy.stats import t

    parts = [logs[start:end] for start, end in itertools.pairwise([0, *ends])]
    rest = [value - fmean(part) for part in parts for value in part]
    squares = sum(value * value for value in rest)
    alike = sum(one * two for one, two in itertools.pairwise(rest)) / squares if squares else 0.0
    worth = (1 + min(max(alike, 0.0), 0.9)) / (1 - min(max(alike, 0.0), 0.9))
    found = []
    for one, two in itertools.pairwise(parts):
        degrees = len(one) + len(two) - 2
        within = sum((value - fmean(part)) ** 2 for part in (one, two) for value in part) / degrees
        error = math.sqrt(within * worth * (1 / len(one) + 1 / len(two)))
        apart = abs(fmean(two) - fmean(one))
        found.append(min(1.0, 2 * float(t.sf(apart / error, degrees)) * len(logs)) if error else float(apart == 0))
    return found


def _chances_by_rank(logs: Sequence[float], ends: Sequence[int]) -> list[float]:
    """The same by Mann and Whitney's test, which long tails do not mislead. Levels of few runs cannot be sure by it:
    there it asks that no run of one lies among the other's."""
    from scipy.stats import mannwhitneyu

    parts = [logs[start:end] for start, end in itertools.pairwise([0, *ends])]
    found = []
    for one, two in itertools.pairwise(parts):
        surest = 2 / math.comb(len(one) + len(two), len(one))
        chance = float(mannwhitneyu(one, two).pvalue)
        found.append(0.0 if chance <= surest * 1.0001 else min(1.0, chance * len(logs)))
    return found
