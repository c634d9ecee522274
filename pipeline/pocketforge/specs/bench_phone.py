"""What `bench_phone` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.device import AdbDevice
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class Rounds:
    """How a file is timed on a phone: in rounds, of which those count in which it did not slow down.

    Attributes:
        cores: big, mid, little, all or a list as 4-6,7.
        threads: Of the runtime.
        warmup: Inferences in each round before the first that counts.
        rounds: So many that count.
        min_samples: Timed inferences of all rounds together, at least.
        min_seconds: Timed seconds of each round, at least.
        max_thermal_status: Android's, 0 (none) to 6, down to which the phone must have cooled before a round.
        max_battery_c: To which the battery must have cooled before a round, in °C.
        cool_timeout_s: So long the phone may take for it.
        time_limit_s: For each run on the phone, cooling apart.
    """

    cores: str
    threads: int
    warmup: int
    rounds: int
    min_samples: int
    min_seconds: float
    max_thermal_status: int
    max_battery_c: float
    cool_timeout_s: float
    time_limit_s: float

    @classmethod
    def of(cls, device: AdbDevice) -> Rounds:
        """As the recipe's [[device]] says."""
        return cls(
            device.cores,
            device.threads,
            device.warmup,
            device.rounds,
            device.min_samples,
            device.min_seconds,
            device.max_thermal_status,
            device.max_battery_c,
            device.cool_timeout_s,
            device.time_limit_s,
        )


@dataclass(frozen=True, slots=True)
class BenchPhoneSpec(Spec):
    """Stage `bench_phone`.

    Attributes:
        runtime: The runtime that loads the file.
        phone: What decides results on the phone (model, Android build, kernel), in words.
        emulator: The parts that our runners come from, in words; empty where the user has a runner of his own.
        serial: Which phone.
        how: How the file is timed.
    """

    runtime: str
    phone: str
    emulator: str
    serial: str
    how: Rounds
