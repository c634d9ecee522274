"""One measured value of one file, how it came about, and what the gate says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pocketforge.outcomes.bench import HowHere
from pocketforge.outcomes.bench_phone import HowOnPhone
from pocketforge.recipe import Budget
from pocketforge.recipe.budget import METRICS, Better
from pocketforge.records.words import Count, May, Name, NotNegative, Sha256, Share, Words
from pocketforge.registries import DEVICES, PYTORCH

Verdict = Literal["PASS", "FAIL", "MISSING", "INCONCLUSIVE"]
# A kind of device, or what is a fact of the model itself (parameters, MACs), which no runtime measures.
Via = Annotated[str, May(names=(*DEVICES.ours, PYTORCH))]
Unit = Annotated[str, May(names=tuple(sorted({metric.unit for metric in METRICS.ours.values()})))]


@dataclass(frozen=True, slots=True)
class HowOnThePhone(HowOnPhone):
    """How a file was timed on a phone, and how far to trust it.

    Attributes:
        noise_floor: How far results on this phone lie apart, as a fraction.
        noise_floor_from: How that is known, in words.
    """

    noise_floor: NotNegative
    noise_floor_from: Name


@dataclass(frozen=True, slots=True)
class HowCounted:
    """How instructions of one inference were counted on an emulated device.

    Attributes:
        conclusive: Whether two windows of one inference gave the same.
        reason: Why not; empty when they did.
        by_class: Class of instructions → how many.
        windows: Instructions of each window.
        qemu: The emulator and its version.
        cpu: What it emulated.
    """

    conclusive: bool
    reason: str
    by_class: Mapping[str, Count]
    windows: tuple[Count, ...]
    qemu: Name
    cpu: Name


@dataclass(frozen=True, slots=True)
class HowEstimated:
    """From which model of a core an estimate is.

    Attributes:
        status: Whether the model was fitted to this core ("calibrated"), to one like it ("transferred"), or to none.
        model_version: Of the model and its tables.
        core: The core type.
        coverage: With which probability the interval holds the truth.
        interval: Its lower and its upper end, in the metric's unit.
    """

    status: Literal["calibrated", "transferred", "uncalibrated"]
    model_version: Name
    core: Name
    coverage: Share
    interval: tuple[NotNegative, NotNegative]


@dataclass(frozen=True, slots=True)
class HowCompared:
    """On what a file's outputs were judged.

    Attributes:
        samples: How many eval samples; of a slice's worst value those that have it.
        runtime: What ran the file, with its version.
        output: The output that the value is of; None where there is only one.
        better: Of a metric of the user's which values are better; None of others.
        worst: Of which part of the samples the value is, where it is of the worst: the slice's value, or the class;
            None of all.
    """

    OMIT_UNSET: ClassVar[bool] = True

    samples: Count
    runtime: Name
    output: Name | None = None
    better: Better | None = None
    worst: str | None = None


@dataclass(frozen=True, slots=True)
class HowCarried:
    """What an app was counted to carry for a file: the file, and the library of its runtime.

    Attributes:
        abi: The processors and the system that the app is for.
        as_sent: How each file was compressed, with the level; "stored" for what is installed.
        model_part_bytes: What the model file has of the value.
        library: Which library was counted, with its version.
        library_part_bytes: What the library has of the value.
        library_from: Where its size is from.
        library_sha256: Name → SHA-256 of each of its files; empty where only its size was given.
    """

    abi: Name
    as_sent: Name
    model_part_bytes: Count
    library: Name
    library_part_bytes: Count
    library_from: Name
    library_sha256: Mapping[str, Sha256]


@dataclass(frozen=True, slots=True)
class HowElse:
    """Nothing is to be said of sizes and counts of the model; a device from a plug-in says it in its own words.

    Attributes:
        more: Those words.
    """

    FLAT: ClassVar[str] = "more"

    more: Words = field(default_factory=dict)


UNTOLD = HowElse()
How = HowHere | HowOnThePhone | HowCounted | HowEstimated | HowCompared | HowCarried | HowElse


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of exactly one file, and how it was measured.

    Attributes:
        metric: A name of METRICS, or of a metric of the user's; of its worst slice or class with these behind it.
        value: In `unit`.
        unit: The metric's; empty for shares and plain numbers.
        target: The target whose file it is of.
        artifact_sha256: Of the file that was measured.
        via: The kind of device that it ran on; "pytorch" for facts of the model itself, which no runtime measures.
        device: The device's name; empty for what is of no device, and for outputs on the host.
        samples: The raw values in measuring order, where there are several (latency in ms).
        how: How it was measured.
    """

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"samples"})

    metric: Name
    value: float
    unit: Unit
    target: Name
    artifact_sha256: Sha256
    via: Via
    device: str = ""
    samples: tuple[NotNegative, ...] = ()
    how: How = UNTOLD


@dataclass(frozen=True, slots=True)
class GateResult:
    """A budget, what was measured against it, and the verdict. Only PASS passes.

    Attributes:
        budget: As the recipe has it.
        target: The target that it was held against.
        device: The device; empty where the metric is of none.
        measurement: What was measured; null when MISSING.
        value: What was held against the limit: of a latency the budget's percentile; null when MISSING.
        verdict: INCONCLUSIVE: what was measured does not settle on which side of the limit the value is.
        reason: Why it is not PASS, in words; empty when it is.
        metric: Of a budget on `metric`: which one that is for the recipe; empty where the budget names its metric.
        waiver: Of one that is not PASS and may be so for a while: until when, by whom and why; else empty.
    """

    budget: Budget
    target: Name
    device: str
    measurement: Measurement | None
    value: float | None
    verdict: Verdict
    reason: str = ""
    metric: str = ""
    waiver: str = ""

    @property
    def blocks(self) -> bool:
        return self.verdict != "PASS" and self.budget.severity == "error" and not self.waiver
