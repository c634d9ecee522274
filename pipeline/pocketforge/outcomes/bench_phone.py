"""bench.json of a phone: a file timed in rounds, with what the phone was like in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """One round. Pairs are of before and after it; None is what the phone does not tell.

    Attributes:
        index: Its place in the session.
        block: Rounds of one block belong together (A B B A, where two files are compared).
        p50_ms: The median of its samples.
        samples: How many there are.
        clock_ghz: Mean clock of the fastest of the cores that it might run on.
        throttled: It does not count: the phone slowed down, or in another round of its block.
        reasons: Why it does not.
        battery_c: Battery, in °C.
        skin_c: The hottest sensor of the skin, in °C.
        thermal_status: Android's, 0 (none) to 6 (shutdown).
    """

    index: int
    block: int
    p50_ms: float
    samples: int
    clock_ghz: float | None
    throttled: bool
    reasons: tuple[str, ...]
    battery_c: tuple[float | None, float | None]
    skin_c: tuple[float | None, float | None]
    thermal_status: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class HowOnPhone:
    """How a file was timed on a phone.

    Attributes:
        runtime: The runtime's package and version, or the runner of another make.
        runner_sha256: Of the program that ran the file there.
        cores: The cores that were asked for.
        cpus: The numbers of those that it was pinned to; empty where Android chose.
        threads: Of the runtime.
        warmup: Inferences in each round before the first that counts.
        waited_s: For the phone to cool down.
        settings: What was set on the phone, and what it was before (android_bench/settings.py).
        notes: What could not be watched.
        conclusive: Whether enough rounds count for a verdict.
        reason: Why not; empty when they do.
        rounds: All of this file, in the order in which they ran.
    """

    runtime: str
    runner_sha256: str
    cores: str
    cpus: tuple[int, ...]
    threads: int
    warmup: int
    waited_s: float
    settings: tuple[Mapping[str, object], ...]
    notes: tuple[str, ...]
    conclusive: bool
    reason: str
    rounds: tuple[RoundTimes, ...]

    @property
    def clean(self) -> tuple[RoundTimes, ...]:
        """The rounds that count."""
        return tuple(each for each in self.rounds if not each.throttled)


@dataclass(frozen=True, slots=True)
class PhoneBench:
    """What stage `bench_phone` measured. A runner of the user's may not tell of loading and memory: None.

    Attributes:
        sha256: Of the bytes that the runner loaded.
        samples_ms: Every timed inference of the rounds that count, in measuring order.
        load_ms: Until the file was loaded: the median of the rounds.
        peak_rss_bytes: Of the runner's process: the largest of the rounds.
        loaded_rss_bytes: Once the file was loaded: the largest of the rounds.
        how: How it was measured.
    """

    FILE: ClassVar[str] = "bench.json"

    sha256: str
    samples_ms: tuple[float, ...]
    load_ms: float | None
    peak_rss_bytes: int | None
    loaded_rss_bytes: int | None
    how: HowOnPhone
