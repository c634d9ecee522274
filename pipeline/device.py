"""Entries of [[device]]: where files run, and how. `via` says which kind of place it is.

Only a real device measures time. An emulated one runs the ARM kernels themselves: their outputs and how many
instructions they take are exact, what follows from those about cycles and milliseconds is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from pipeline.rules import check_name, positive

# What only a device that keeps time can give, and what only an emulated one gives.
MEASURED_METRICS = frozenset({"latency_ms", "load_ms", "peak_rss_bytes"})
EMULATED_METRICS = frozenset({"instructions", "estimated_cycles", "estimated_latency_ms"})
PER_DEVICE_METRICS = MEASURED_METRICS | EMULATED_METRICS
# Of the file's outputs: measured on the host, and on each emulated device too, whose kernels are others.
OUTPUT_METRICS = frozenset({"accuracy_top1", "accuracy_drop", "metric", "parity_sqnr_db"})


@dataclass(frozen=True, slots=True)
class HostDevice:
    """This machine: warm-up runs, then at least `min_samples` and `min_seconds` of timed ones."""

    name: str = "host"
    via: Literal["host"] = "host"
    threads: int = 1
    warmup: int = 10
    min_samples: int = 100
    min_seconds: float = 1.0

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        positive(self.threads, "threads")
        positive(self.min_samples, "min_samples")
        if self.warmup < 0 or self.min_seconds < 0:
            raise ValueError("warmup and min_seconds must be 0 or more")


@dataclass(frozen=True, slots=True)
class EmulatedDevice:
    """A device profile's cores, emulated.

    profile: a shipped profile's name, or a .toml file of one. cores: which of its clusters; the fastest when empty.
    eval_samples: at most so many are run there, all when 0. min_sqnr_db, min_argmax_agreement: how near the outputs
    must be to the same file's on the host; by scheme when absent. calibration: a file of `pocketforge device calibrate`
    that estimates use; the shipped one when empty. time_limit_s: for each file on this device.
    """

    profile: str
    name: str = ""
    via: Literal["emulator"] = "emulator"
    cores: str = ""
    threads: int = 1
    eval_samples: int = 0
    min_sqnr_db: float | None = None
    min_argmax_agreement: float | None = None
    calibration: str = ""
    time_limit_s: float = 1800.0
    memory_limit_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        if not self.profile:
            raise ValueError("profile is empty: `pocketforge device profiles` lists those that ship")
        if not self.name:
            object.__setattr__(self, "name", PurePath(self.profile).stem)
        check_name(self.name, "name")
        if self.threads != 1:
            raise ValueError(
                f"threads: counts and estimates of an emulated device are of 1 thread, found {self.threads}; "
                "how threads share a phone's cores can be measured only on the phone"
            )
        if self.eval_samples < 0:
            raise ValueError(f"eval_samples must be 0 (all) or more, found {self.eval_samples}")
        positive(self.time_limit_s, "time_limit_s")
        positive(self.memory_limit_bytes, "memory_limit_bytes")


Device = HostDevice | EmulatedDevice

KINDS: dict[str, type[HostDevice] | type[EmulatedDevice]] = {"host": HostDevice, "emulator": EmulatedDevice}
