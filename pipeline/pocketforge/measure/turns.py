"""Two model files timed in turns on the host, A B B A, each time in a new process (measure/ab.py has the statistic)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.measure.ab import ORDER, Round, compare, round_of
from pocketforge.stats import Interval

# Of a round: enough for a steady median, short enough for many rounds.
SAMPLES, SECONDS, WARMUP = 30, 0.15, 5


@dataclass(frozen=True, slots=True)
class InTurns:
    """What came of it.

    Attributes:
        median_ms: Of the rounds' medians, of the first file and of the second.
        difference_percent: Above zero where the second is slower: the mean with its 95 % interval.
        blocks: How many blocks A B B A.
    """

    median_ms: tuple[float, float]
    difference_percent: Interval
    blocks: int


def time_two(
    first: RunRequest, second: RunRequest, blocks: int, progress: Callable[[float], None] = lambda _fraction: None
) -> InTurns:
    """blocks: MIN_BLOCKS or more. Raises ToolFailed where a file does not load or run, DeviceTimeout."""
    rounds: list[Round] = []
    requests = {"A": first, "B": second}
    for label in ORDER * blocks:
        rounds.append(round_of(label, host.run(requests[label], quiet=True).samples_ms))
        progress(len(rounds) / (blocks * len(ORDER)))
    difference = compare(rounds, 0.0).difference_percent
    assert difference is not None, "blocks were finished"
    medians = [median(each.latency_ms for each in rounds if each.label == label) for label in requests]
    return InTurns((medians[0], medians[1]), difference, blocks)
