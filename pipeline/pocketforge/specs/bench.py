"""What `bench` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.device import HostDevice
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class Sitting:
    """How a file is timed on this host: in several new processes, one after another.

    Attributes:
        threads: Of the runtime.
        processes: So many.
        spacing_seconds: From the start of one to the start of the next, at least.
        warmup: Inferences in each process before the first that counts.
        min_samples: Timed inferences of all processes together, at least.
        min_seconds: Timed seconds of all processes together, at least.
    """

    threads: int
    processes: int
    spacing_seconds: float
    warmup: int
    min_samples: int
    min_seconds: float

    @classmethod
    def of(cls, device: HostDevice) -> Sitting:
        """As the recipe's [[device]] says."""
        return cls(
            device.threads,
            device.processes,
            device.spacing_seconds,
            device.warmup,
            device.min_samples,
            device.min_seconds,
        )


@dataclass(frozen=True, slots=True)
class BenchSpec(Spec):
    """Stage `bench`.

    Attributes:
        runtime: The runtime that loads the file.
        host: The processor that it runs on, in words: another machine's times are not this one's.
        device: How it is timed.
    """

    runtime: str
    host: str
    device: Sitting
