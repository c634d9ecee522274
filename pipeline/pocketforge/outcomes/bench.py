"""bench.json of the host: a file timed in several processes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """One process of a sitting.

    Attributes:
        samples: How many of the samples are this process's, in measuring order.
        p50_ms: Their median.
        load_ms: Until the file was loaded.
        peak_rss_bytes: Of the whole process, interpreter and runtime included.
    """

    samples: int
    p50_ms: float
    load_ms: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class HowHere:
    """How a file was timed on this host.

    Attributes:
        threads: Of the runtime.
        cpus: Those that the processes might run on.
        warmup: Inferences in each process before the first that counts.
        runtime: The runtime's package and version.
        others: Share of the machine's processors that other programs had meanwhile, 0 to 1.
        processes: One after another.
        host: The processor, in words (facts/gather.py); empty outside a build.
    """

    threads: int
    cpus: tuple[int, ...]
    warmup: int
    runtime: str
    others: float
    processes: tuple[ProcessTimes, ...]
    host: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """What stage `bench` measured.

    Attributes:
        sha256: Of the file that was timed.
        samples_ms: Every timed inference, in measuring order.
        load_ms: Until the file was loaded: the median of the processes.
        peak_rss_bytes: The largest of the processes.
        loaded_rss_bytes: Once the file was loaded: the largest of the processes.
        how: How it was measured.
    """

    FILE: ClassVar[str] = "bench.json"

    sha256: str
    samples_ms: tuple[float, ...]
    load_ms: float
    peak_rss_bytes: int
    loaded_rss_bytes: int
    how: HowHere
