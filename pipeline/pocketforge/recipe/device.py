"""Entries of [[device]]: where files run, and how. `via` says which kind of place it is.

Only a real device measures time. An emulated one runs the ARM kernels themselves: their outputs and how many
instructions they take are exact, what follows from those about cycles and milliseconds is an estimate. An x86 host that
is played gives outputs alone. A phone over
adb is a real device that gets hot: what it measured says at which clock, and rounds in which it slowed do not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from pkgutil import resolve_name
from typing import ClassVar, Literal, Protocol

from pocketforge.errors import PluginFailed
from pocketforge.recipe.budget import Place, place_of
from pocketforge.recipe.names import check_name
from pocketforge.recipe.ranges import (
    COUNT,
    COUNT_OR_NONE,
    DECIBELS,
    SECONDS,
    SHARE,
    STEPS_OF_OUTPUT,
    THREADS,
    TIME_LIMIT_S,
    Range,
    check_path,
    check_ranges,
)
from pocketforge.registries import DEVICES

# How the profiles of x86 hosts are called, shipped ones and a user's own.
X86_PREFIX = "x86-"

# Rounds on a phone, or processes on the host, that a verdict needs: with fewer, how far they lie apart is chance.
LEAST_ROUNDS = 3
_ROUNDS = Range(LEAST_ROUNDS, 1000)
_WARMUP = Range(0, 100_000)


class Device(Protocol):
    """What every entry of [[device]] has: a frozen dataclass of its kind, `via`, which the registry names.

    GIVES: the places of metrics (`Metric.place`) that some device of the kind gives.
    """

    GIVES: ClassVar[frozenset[Place]]

    @property
    def name(self) -> str:
        """What budgets and reports call it."""
        ...

    @property
    def via(self) -> str:
        """Its kind, a name of DEVICES."""
        ...

    @property
    def gives(self) -> frozenset[Place]:
        """The places of metrics that a budget can be on here."""
        ...

    @property
    def budget_names(self) -> tuple[str, ...]:
        """What a budget may call it."""
        ...

    def named_files(self) -> dict[str, str]:
        """Key of the entry → a file that it names, as it is written there; those that are empty are not looked for."""
        ...


@dataclass(frozen=True, slots=True)
class HostDevice:
    """This machine: a file is timed in several new processes.

    Attributes:
        name: What budgets and reports call it.
        via: Always `host`.
        threads: Of the runtime; as many processors are the process's.
        processes: How many; an interval of latencies is of them.
        spacing_seconds: From the start of one to the start of the next, at least.
        warmup: Inferences before the timed ones in each.
        min_samples: At least so many timed inferences in all processes together.
        min_seconds: At least so long, in all processes together.
    """

    name: str = "host"
    via: Literal["host"] = "host"
    threads: int = 1
    processes: int = 5
    spacing_seconds: float = 1.0
    warmup: int = 5
    min_samples: int = 100
    min_seconds: float = 0.5

    GIVES: ClassVar[frozenset[Place]] = frozenset({"timed"})
    RANGES: ClassVar[Mapping[str, Range]] = {
        "threads": THREADS,
        "processes": _ROUNDS,
        "spacing_seconds": SECONDS,
        "warmup": _WARMUP,
        "min_samples": COUNT,
        "min_seconds": SECONDS,
    }

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if self.processes < LEAST_ROUNDS:
            raise ValueError(
                f"processes must be {LEAST_ROUNDS} or more, to see how far they lie apart, found {self.processes}"
            )
        check_ranges(self)

    @property
    def gives(self) -> frozenset[Place]:
        return self.GIVES

    @property
    def budget_names(self) -> tuple[str, ...]:
        return (self.name,)

    def named_files(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class EmulatedDevice:
    """A device profile's cores, emulated; or an x86 host (a profile called x86-…), whose outputs alone are compared.

    Attributes:
        profile: A shipped profile's name, or a .toml file of one.
        name: What budgets and reports call it; empty: as the profile.
        via: Always `emulator`.
        cores: Which of the profile's clusters; empty: the fastest.
        threads: Only 1: how threads share a phone's cores cannot be emulated.
        eval_samples: At most so many are run there; 0: all.
        min_sqnr_db: Least SQNR of the outputs against the same file's on the host, in dB; None: by scheme.
        min_argmax_agreement: Share of samples with the same top class there and on the host; None: by scheme.
        max_steps: Largest difference from the host, in steps of a quantized output; None: by scheme.
        calibration: File of `pocketforge device calibrate` that estimates use; empty: the shipped one.
        time_limit_s: For each file on this device.
        memory_limit_bytes: Of the emulator's process.
    """

    profile: str
    name: str = ""
    via: Literal["emulator"] = "emulator"
    cores: str = ""
    threads: int = 1
    eval_samples: int = 0
    min_sqnr_db: float | None = None
    min_argmax_agreement: float | None = None
    max_steps: float | None = None
    calibration: str = ""
    time_limit_s: float = 1800.0
    memory_limit_bytes: int = 4 * 2**30

    GIVES: ClassVar[frozenset[Place]] = frozenset({"outputs", "emulated"})
    RANGES: ClassVar[Mapping[str, Range]] = {
        "threads": Range(1, 1),
        "eval_samples": COUNT_OR_NONE,
        "min_sqnr_db": DECIBELS,
        "min_argmax_agreement": SHARE,
        "max_steps": STEPS_OF_OUTPUT,
        "time_limit_s": TIME_LIMIT_S,
        "memory_limit_bytes": Range(2**20, 2**50, unit="bytes"),
    }

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
        check_path(self.profile, "profile")
        check_path(self.calibration, "calibration")
        check_ranges(self)
        for name in ("cores", "calibration"):
            if self.plays_x86 and getattr(self, name):
                raise ValueError(f"{name}: an x86 host has none: its outputs are compared, nothing of it is estimated")

    @property
    def plays_x86(self) -> bool:
        """Whether it is an x86 host: known by the profile's name, so that a recipe is checked without reading files."""
        return PurePath(self.profile).name.startswith(X86_PREFIX)

    @property
    def gives(self) -> frozenset[Place]:
        return frozenset({"outputs"}) if self.plays_x86 else self.GIVES

    @property
    def budget_names(self) -> tuple[str, ...]:
        return (self.name,)

    def named_files(self) -> dict[str, str]:
        return {"calibration": self.calibration}


@dataclass(frozen=True, slots=True)
class AdbDevice:
    """A phone over adb.

    Attributes:
        name: What budgets and reports call it; empty: as the profile, else `phone`.
        via: Always `adb`.
        serial: Which phone; empty: the connected one that is the profile's, else the only one.
        profile: Which device it stands for: budgets may name it, and what the phone has otherwise is said. Empty for
            none.
        required: Whether it is an error that there is no such phone; else the device is left out with a warning.
        cores: `big`, `mid`, `little`, `all`, or a list as `4-6,7`.
        threads: Of the runtime.
        warmup: Inferences before each round.
        rounds: How many; rounds in which the phone slowed are repeated and do not count.
        min_samples: At least so many timed inferences in all rounds together.
        min_seconds: At least so long each round.
        eval_samples: At most so many are run there for their outputs; 0: all.
        min_sqnr_db: As of an emulated device.
        min_argmax_agreement: As of an emulated device.
        runners: Runtime → a program of the user's own that runs its files.
        runner_libraries: Runtime → the library that this program loads, where it takes one.
        max_thermal_status: Android's, 0 (none) to 6, down to which the phone must have cooled before a round.
        max_battery_c: Battery temperature in °C, the same.
        cool_timeout_s: How long to wait for that.
        time_limit_s: For each run on this phone, cooling apart.
    """

    name: str = ""
    via: Literal["adb"] = "adb"
    serial: str = ""
    profile: str = ""
    required: bool = True
    cores: str = "big"
    threads: int = 1
    warmup: int = 10
    rounds: int = 5
    min_samples: int = 100
    min_seconds: float = 1.0
    eval_samples: int = 0
    min_sqnr_db: float | None = None
    min_argmax_agreement: float | None = None
    runners: dict[str, str] = field(default_factory=dict)
    runner_libraries: dict[str, str] = field(default_factory=dict)
    max_thermal_status: int = 0
    max_battery_c: float = 38.0
    cool_timeout_s: float = 600.0
    time_limit_s: float = 1800.0

    GIVES: ClassVar[frozenset[Place]] = frozenset({"outputs", "timed"})
    RANGES: ClassVar[Mapping[str, Range]] = {
        "threads": THREADS,
        "warmup": _WARMUP,
        "rounds": _ROUNDS,
        "min_samples": COUNT,
        "min_seconds": SECONDS,
        "eval_samples": COUNT_OR_NONE,
        "min_sqnr_db": DECIBELS,
        "min_argmax_agreement": SHARE,
        "max_thermal_status": Range(0, 6),
        "max_battery_c": Range(0, 60, unit="°C"),
        "cool_timeout_s": SECONDS,
        "time_limit_s": TIME_LIMIT_S,
    }

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", PurePath(self.profile).stem if self.profile else "phone")
        check_name(self.name, "name")
        if self.rounds < LEAST_ROUNDS:
            raise ValueError(
                f"rounds must be {LEAST_ROUNDS} or more, to see how far they lie apart, found {self.rounds}"
            )
        for runtime in self.runner_libraries:
            if runtime not in self.runners:
                raise ValueError(f"runner_libraries.{runtime} is of a runner, and runners has none for {runtime}")
        if not 0 <= self.max_thermal_status <= 6:
            raise ValueError(f"max_thermal_status must be 0 (none) to 6 (shutdown), found {self.max_thermal_status}")
        check_path(self.profile, "profile")
        for key in ("runners", "runner_libraries"):
            for runtime, path in getattr(self, key).items():
                check_path(path, f"{key}.{runtime}")
        check_ranges(self)
        if not self.cores:
            raise ValueError("cores is empty: big, mid, little, all or a list as 4-6,7")

    @property
    def gives(self) -> frozenset[Place]:
        return self.GIVES

    @property
    def budget_names(self) -> tuple[str, ...]:
        """Also that of the profile that it stands for."""
        return tuple(dict.fromkeys((self.name, PurePath(self.profile).stem if self.profile else self.name)))

    def named_files(self) -> dict[str, str]:
        kinds = {"runners": self.runners, "runner_libraries": self.runner_libraries}
        return {f"{key}.{runtime}": file for key, files in kinds.items() for runtime, file in files.items()}


class _Kinds(Mapping[str, type[Device]]):
    """`via` → the dataclass of such entries; one that a package adds is imported when a recipe has it."""

    def __getitem__(self, via: str) -> type[Device]:
        place = DEVICES[via].entry
        with DEVICES.calling(via, place):
            entry: type[Device] = resolve_name(place)
        if not (isinstance(entry, type) and dataclasses.is_dataclass(entry)):
            raise PluginFailed(f"kind of device {via}: entry {place} must be a dataclass, found {entry!r}")
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(DEVICES)

    def __len__(self) -> int:
        return len(DEVICES)


KINDS: Mapping[str, type[Device]] = _Kinds()


def gives(device: Device, metric: str) -> bool:
    """Whether a device gives a metric of its own."""
    return place_of(metric) in device.gives
