"""Is B slower than A? Two files timed in turns on one device, A B B A, and what such a session can tell. Pure.

A phone drifts while it is timed: it warms up, its clock falls, other apps come and go. In a block A B B A both are at
the same mean time, so a drift that is linear in time falls out of the block's log ratio, ln(B1 B2 / A1 A2) / 2; what is
left of it (its second order) is the square of the drift between two rounds. Each block is one paired observation,
independent of the others' level; their mean has a Student t interval, taken on logarithms because speed is a ratio
(as `stats.geometric_interval`).

Sources: Box, Hunter & Hunter, Statistics for Experimenters, 2nd ed., chapters 3 and 4 (pairs and blocks); Daniel,
Applications of Statistics to Industrial Experimentation, chapter 15 (orders that cancel a linear trend); Georges,
Buytaert & Eeckhout, Statistically Rigorous Java Performance Evaluation, OOPSLA 2007 (intervals of whole runs, not of
single timings); Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680 (a tolerance is kept when the
whole interval is on its side).

A 95 % interval gives each verdict that is a wrong one with a chance of 2.5 % at most. That holds for a number of blocks
that was fixed before: adding blocks until a verdict comes makes wrong ones likelier. `blocks_needed` is for planning
the next session.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from pocketforge.stats import Interval, mean_interval, percentile, t95

ORDER = "ABBA"
# With fewer the interval is valid in theory and rests on a spread that nobody has seen.
MIN_BLOCKS = 4
# More is a day's work on a phone: the difference is where the tolerance is.
MAX_BLOCKS = 1000

AbVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one file.

    Attributes:
        label: Which file.
        latency_ms: Of one inference, a percentile of the round's samples.
        throttled: Whether the phone did (its clock fell, its status rose).
    """

    label: str
    latency_ms: float
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks A B B A.

    Attributes:
        log_ratios: Of each block that counts, the logarithm of the second file's time over the first's.
        throttled: So many were left out because a round of theirs was throttled.
        unfinished: So many were left out because they were not finished; the last one at most.
    """

    log_ratios: tuple[float, ...]
    throttled: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A.

    Attributes:
        verdict: PASS and FAIL where the whole interval is on that side of the tolerance.
        reason: In words.
        difference_percent: Above zero where B is slower: the mean with its 95 % interval, whose ends are infinite with
            a single block; None with no block.
        tolerance_percent: So much slower B may be.
        noise_floor_percent: What the phone shows of a file against itself; the interval is at least as wide.
        blocks: How many count.
        blocks_needed: About how many would decide, if all go on as these; None where none would.
        throttled: As `Blocks`.
        unfinished: As `Blocks`.
    """

    verdict: AbVerdict
    reason: str
    difference_percent: Interval | None
    tolerance_percent: float
    noise_floor_percent: float
    blocks: int
    blocks_needed: int | None
    throttled: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class SessionNoise:
    """What one file compared with itself (A/A) gives: differences below the floor are this phone's noise.

    Attributes:
        bias_percent: The difference found.
        half_width_percent: Of its 95 % interval.
        session_percent: The most that a session of so many blocks may show where there is no difference: the further
            end of the interval.
        block_percent: The same of a single block.
        blocks: How many count.
        throttled: As `Blocks`.
        unfinished: As `Blocks`.
    """

    bias_percent: float
    half_width_percent: float
    session_percent: float
    block_percent: float
    blocks: int
    throttled: int
    unfinished: int

    @property
    def noise_floor(self) -> float:
        """As a fraction of a latency, for a measurement's `how["noise_floor"]`."""
        return self.session_percent / 100


def round_of(label: str, samples_ms: Sequence[float], throttled: bool = False, name: str = "p50") -> Round:
    """A round by a percentile of its samples (the median: one interrupt is no slower model). Raises ValueError."""
    return Round(label, percentile(samples_ms, name), throttled)


def blocks_of(rounds: Iterable[Round], a: str = "A", b: str = "B") -> Blocks:
    """The blocks in the order they ran. A block with a throttled round is left out whole: half of it has no drift to
    cancel; so is a last one that was not finished. Raises ValueError where the order is not A B B A (or B A A B).
    """
    if a == b:
        raise ValueError(f"two labels are needed, found {a!r} twice")
    logs: list[float] = []
    throttled = unfinished = 0
    everything = tuple(rounds)
    for start in range(0, len(everything), len(ORDER)):
        number, block = start // len(ORDER) + 1, everything[start : start + len(ORDER)]
        labels = [one.label for one in block]
        if labels not in ([a, b, b, a][: len(block)], [b, a, a, b][: len(block)]):
            raise ValueError(f"block {number}: wanted the order {a} {b} {b} {a}, found {' '.join(labels)}")
        if len(block) < len(ORDER):
            unfinished += 1
            continue
        for one in block:
            if not (math.isfinite(one.latency_ms) and one.latency_ms > 0):
                raise ValueError(f"block {number}: wanted a latency above 0 ms, found {one.latency_ms} of {one.label}")
        if any(one.throttled for one in block):
            throttled += 1
            continue
        logs.append(sum(math.log(one.latency_ms) * (1 if one.label == b else -1) for one in block) / 2)
    return Blocks(tuple(logs), throttled, unfinished)


def compare(
    rounds: Iterable[Round],
    tolerance_percent: float,
    *,
    a: str = "A",
    b: str = "B",
    noise_floor_percent: float = 0.0,
) -> Comparison:
    """Whether `b` is no more than `tolerance_percent` slower than `a`. Raises ValueError as `blocks_of` does.

    PASS and FAIL: the whole interval is on that side of the tolerance. It is at least as wide as the phone's noise
    floor, in both directions: what a phone shows of a file against itself proves no difference.
    """
    if not (math.isfinite(tolerance_percent) and tolerance_percent > -100):
        raise ValueError(f"wanted a tolerance in per cent above -100, found {tolerance_percent}")
    if not (math.isfinite(noise_floor_percent) and noise_floor_percent >= 0):
        raise ValueError(f"wanted a noise floor in per cent, 0 or more, found {noise_floor_percent}")
    blocks = blocks_of(rounds, a, b)
    count = len(blocks.log_ratios)
    limit = math.log1p(tolerance_percent / 100)
    floor = math.log1p(noise_floor_percent / 100)
    interval = _interval(blocks.log_ratios, floor) if count else None
    needed: int | None = MIN_BLOCKS
    verdict: AbVerdict = "INCONCLUSIVE"
    if interval is None or count < MIN_BLOCKS:
        reason = f"{count} blocks that count{_left_out(blocks)}; at least {MIN_BLOCKS} are needed"
    else:
        low, high = _percent(interval.low), _percent(interval.high)
        reason = (
            f"{b} against {a}: {_percent(interval.value):+.2f} % (95 % interval {low:+.2f} to {high:+.2f} %), "
            f"tolerance {tolerance_percent:+g} %"
        )
        needed = count
        if interval.high <= limit:
            verdict = "PASS"
        elif interval.low > limit:
            verdict = "FAIL"
        else:
            needed = blocks_needed(blocks.log_ratios, limit, floor)
            within = abs(interval.value - limit) <= floor
            reason += (
                f"; about {needed} blocks would decide"
                if needed
                else f"; the tolerance is within the phone's noise floor ({noise_floor_percent:g} %) of the difference"
                if within
                else "; no number of blocks decides: the difference is where the tolerance is"
            )
    return Comparison(
        verdict=verdict,
        reason=reason,
        difference_percent=interval and Interval(*map(_percent, (interval.value, interval.low, interval.high))),
        tolerance_percent=tolerance_percent,
        noise_floor_percent=noise_floor_percent,
        blocks=count,
        blocks_needed=needed,
        throttled=blocks.throttled,
        unfinished=blocks.unfinished,
    )


def blocks_needed(log_ratios: Sequence[float], limit: float, floor: float = 0.0) -> int | None:
    """About how many blocks like these put their interval on one side of `limit` (a log ratio); None: none do.

    The smallest n with t(n - 1) s / sqrt(n) below the distance to the limit. Only the same spread is assumed.
    """
    if len(log_ratios) < 2:
        return MIN_BLOCKS
    distance, spread = abs(fmean(log_ratios) - limit), stdev(log_ratios)
    if distance <= floor:
        return None
    for count in range(MIN_BLOCKS, MAX_BLOCKS + 1):
        if t95(count - 1) * spread / math.sqrt(count) < distance:
            # These blocks did not decide it: their luck is not another session's.
            return max(count, len(log_ratios) + 1)
    return None


def noise_floor(rounds: Iterable[Round], *, a: str = "A", b: str = "B") -> SessionNoise:
    """What the phone shows of one file against itself, under two labels. Raises ValueError, also on too few blocks."""
    blocks = blocks_of(rounds, a, b)
    count = len(blocks.log_ratios)
    if count < MIN_BLOCKS:
        raise ValueError(f"{count} blocks that count{_left_out(blocks)}; a noise floor needs {MIN_BLOCKS}")
    bias, spread = fmean(blocks.log_ratios), stdev(blocks.log_ratios)
    t = t95(count - 1)
    half = t * spread / math.sqrt(count)
    return SessionNoise(
        bias_percent=_percent(bias),
        half_width_percent=_percent(half),
        session_percent=_percent(abs(bias) + half),
        # A prediction interval: a further block has the blocks' spread and the mean's.
        block_percent=_percent(abs(bias) + t * spread * math.sqrt(1 + 1 / count)),
        blocks=count,
        throttled=blocks.throttled,
        unfinished=blocks.unfinished,
    )


def _interval(log_ratios: Sequence[float], floor: float) -> Interval:
    """The mean log ratio with its 95 % interval, no narrower than the noise floor."""
    mean = mean_interval(log_ratios)
    return Interval(mean.value, min(mean.low, mean.value - floor), max(mean.high, mean.value + floor))


def _left_out(blocks: Blocks) -> str:
    numbers = ((blocks.throttled, "throttled"), (blocks.unfinished, "unfinished"))
    left_out = ", ".join(f"{number} {word}" for number, word in numbers if number)
    return f" ({left_out})" if left_out else ""


def _percent(log_ratio: float) -> float:
    return math.expm1(log_ratio) * 100 if log_ratio < 700 else math.inf
