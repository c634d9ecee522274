"""What is known of a target on emulated devices and on phones, beyond the values that budgets are on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pocketforge.outcomes.verify import Measured
from pocketforge.outcomes.verify_device import KernelsThere
from pocketforge.records.measured import HowOnThePhone
from pocketforge.records.words import Bytes, Count, Name, NotNegative, Sha256, Share


@dataclass(frozen=True, slots=True)
class HeldAgainstHost:
    """What a file's outputs are worth on a device.

    Attributes:
        device: Against the labels, and against PyTorch's outputs.
        host: How near they are to the same file's outputs on the host.
        runtime: What ran the file there, with its version.
        kernels: Whose kernels computed them; absent of a phone, which says it under `facts.kernels`.
    """

    OMIT_UNSET: ClassVar[bool] = True

    device: Measured
    host: Measured
    runtime: Name
    kernels: KernelsThere | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """Exact counts of one inference.

    Attributes:
        instructions: All of them.
        windows: Of each window that was counted.
        conclusive: Whether the windows agree.
        doubts: Why the counts may be wrong, in words.
        by_class: Class of instructions → how many.
        by_function: Function → how many, most first; small ones are summed up as "(rest)".
        libraries: Library that ran → SHA-256 of its file.
        qemu: The emulator and its version.
        cpu: What it emulated.
    """

    instructions: Count
    windows: tuple[Count, ...]
    conclusive: bool
    doubts: tuple[str, ...]
    by_class: Mapping[str, Count]
    by_function: Mapping[str, Count]
    libraries: Mapping[str, Sha256]
    qemu: Name
    cpu: Name

    @property
    def doubt(self) -> str:
        """Why they are not conclusive."""
        differ = f"windows of one inference differ: {', '.join(f'{w:,}' for w in self.windows)}"
        return "; ".join(self.doubts) or differ


@dataclass(frozen=True, slots=True)
class Refused:
    """No estimate is given.

    Attributes:
        refused: Why, in words.
    """

    refused: Name


@dataclass(frozen=True, slots=True)
class Estimated:
    """What an inference takes on one core, estimated from its counts; never a measurement.

    Attributes:
        cycles: Compute, memory and overhead cycles.
        compute_cycles: What the core's pipelines take.
        memory_cycles: What waiting for caches and memory adds.
        overhead_cycles: What calls and the runtime's own work add.
        latency_ms: `cycles` at `clock_ghz`.
        low_ms: The lower end of the interval.
        high_ms: Its upper end.
        coverage: With which probability the interval holds the true latency.
        status: Whether the model was fitted to this core ("calibrated"), to one like it ("transferred"), or to none.
        basis: What the interval was judged by, in words.
        core: The core type.
        source_core: The core type that the parameters are of; empty without any.
        clock_ghz: At which the core was taken to run.
        instructions: Of the inference.
        model_version: Of the model and its tables.
        calibration: SHA-256 of the file of parameters.
    """

    cycles: NotNegative
    compute_cycles: NotNegative
    memory_cycles: NotNegative
    overhead_cycles: NotNegative
    latency_ms: NotNegative
    low_ms: NotNegative
    high_ms: NotNegative
    coverage: Share
    status: Literal["calibrated", "transferred", "uncalibrated"]
    basis: Name
    core: Name
    source_core: str
    clock_ghz: NotNegative
    instructions: Count
    model_version: Name
    calibration: Sha256


@dataclass(frozen=True, slots=True)
class OnEmulator:
    """One emulated device: outputs against the host's, exact counts of one inference, what is estimated from them.

    Each is absent where its step did not end.

    Attributes:
        architecture: Of an x86 host, whose outputs alone are compared; absent of an ARM device.
        verify: What the outputs are worth there.
        counts: Of one inference.
        estimate: Cycles and milliseconds, or why there are none.
    """

    OMIT_UNSET: ClassVar[bool] = True

    architecture: Literal["x86_64"] | None = None
    verify: HeldAgainstHost | None = None
    counts: Counted | None = None
    estimate: Refused | Estimated | None = None


@dataclass(frozen=True, slots=True)
class PhoneIs:
    """Which phone it is.

    Attributes:
        serial: As adb names it.
        model: As it calls itself.
        differs: What it has otherwise than the profile that it stands for, in words.
        more: Everything else that it says of itself (chip, Android, cores, features), by name.
    """

    FLAT: ClassVar[str] = "more"

    serial: Name
    model: str
    differs: tuple[str, ...]
    more: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        """In a few words."""
        android = self.said("android_version")
        parts = (
            self.model or "unknown phone",
            self.said("soc") or self.said("platform"),
            f"Android {android}" if android else "",
        )
        return ", ".join(filter(None, parts))

    def said(self, name: str) -> str:
        """One of its other words; empty where it has none."""
        return str(self.more.get(name) or "")


@dataclass(frozen=True, slots=True)
class TimedOnPhone:
    """The rounds in which a phone was timed. A runner of the user's may not tell of loading and memory: null.

    Attributes:
        sha256: Of the file that was timed.
        samples_ms: Every inference of the rounds that count, in measuring order.
        load_ms: Until the file was loaded.
        peak_rss_bytes: Most memory that the runner's process held.
        loaded_rss_bytes: What it held once the file was loaded.
        how: How it was timed.
    """

    sha256: Sha256
    samples_ms: tuple[NotNegative, ...]
    load_ms: NotNegative | None
    peak_rss_bytes: Bytes | None
    loaded_rss_bytes: Bytes | None
    how: HowOnThePhone


@dataclass(frozen=True, slots=True)
class OnPhone:
    """One phone: which it is, outputs against the host's, and the rounds in which it was timed.

    The last two are absent where their step did not end.

    Attributes:
        phone: Which it is.
        verify: What the outputs are worth there.
        bench: What it was timed at.
    """

    OMIT_UNSET: ClassVar[bool] = True

    phone: PhoneIs
    verify: HeldAgainstHost | None = None
    bench: TimedOnPhone | None = None
