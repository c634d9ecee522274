"""Where a measured latency may be, by how it was measured: on the host in processes, on a phone in rounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from pocketforge.outcomes.bench import HowHere
from pocketforge.outcomes.bench_phone import HowOnPhone
from pocketforge.stats import (
    Interval,
    percentile_interval,
    process_interval,
    round_interval,
    rounds_needed,
    samples_needed,
    sittings_apart,
    stretch_range,
)

Parts = list[Sequence[float]]


def latency_interval(samples: Sequence[float], how: object, name: str) -> Interval:
    """A percentile with its 95 % interval. how: it was measured; what has no parts there is judged by its samples."""
    processes, rounds = processes_of(samples, how), rounds_of(samples, how)
    if processes:
        return process_interval(processes, name, _others(how))
    return round_interval(rounds, name) if len(rounds) > 1 else percentile_interval(samples, name)


def load_range(how: object) -> tuple[float, float] | None:
    """The least and the largest time to load of a file's processes, each of which has one; None where there are none.

    No interval of Student's: a disk or a neighbour makes one of five ten times as long, and says nothing of the others.
    """
    loads = [process.load_ms for process in how.processes] if isinstance(how, HowHere) else []
    return (min(loads), max(loads)) if loads else None


def what_settles(samples: Sequence[float], how: object, name: str, limit: float) -> str:
    """What would decide about a limit that the interval holds, in words."""
    processes, rounds = processes_of(samples, how), rounds_of(samples, how)
    if len(processes) > 1:
        others = _others(how)
        value, apart = process_interval(processes, name).value, sittings_apart(others)
        low, high = stretch_range(processes, name)
        if value / (1 + apart) <= limit <= value * (1 + apart):
            beside = f" on which other programs have {others:.0%} of the processors" if others >= 0.01 else ""
            return f"two sittings on a machine{beside} lie ±{apart:.0%} apart: no number of processes settles it"
        if low <= limit <= high:
            return "while it ran the machine was on both sides of the limit: measure on a quieter one"
        needed, what, key = rounds_needed(processes, name, limit), "processes", "processes"
    elif len(rounds) > 1:
        needed, what, key = rounds_needed(rounds, name, limit), "rounds", "rounds"
    else:
        needed, what, key = samples_needed(samples, name, limit), "samples", "min_samples"
    if needed:
        return f"about {needed} {what} would settle it (device {key})"
    return f"the limit is where the value is: no number of {what} settles it"


def processes_of(samples: Sequence[float], how: object) -> Parts:
    """The host's samples by the processes that they are of; empty for what is not measured so."""
    return _split(samples, [process.samples for process in how.processes] if isinstance(how, HowHere) else [])


def rounds_of(samples: Sequence[float], how: object) -> Parts:
    """A phone's samples by the rounds that count; empty for what is not measured in rounds."""
    return _split(samples, [clean.samples for clean in how.clean] if isinstance(how, HowOnPhone) else [])


def _others(how: object) -> float:
    """Share of the processors that other programs had meanwhile."""
    return how.others if isinstance(how, HowHere) else 0.0


def _split(samples: Sequence[float], sizes: Sequence[int]) -> Parts:
    return [samples[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
