"""What `pocketforge bench` found: a row for each file and device, or for each two files compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pocketforge.outcomes import files
from pocketforge.outcomes.bench import HowHere, ProcessTimes
from pocketforge.outcomes.bench_phone import HowOnPhone
from pocketforge.results.latency import latency_interval
from pocketforge.results.phones import Noise
from pocketforge.stats import PERCENTILES, percentile

if TYPE_CHECKING:
    from pocketforge.devices.emulator.counts import Counts
    from pocketforge.estimation.layers import Layer
    from pocketforge.estimation.outcome import Estimated
    from pocketforge.measure.ab import Comparison, SessionNoise
    from pocketforge.metrics import Parity
    from pocketforge.plan.steps import Phone


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One file on one device. Each kind of device has rows of its own.

    Attributes:
        name: The target's, or the file's.
        device: The device's name.
        via: Its kind.
        sha256: Of the file.
        runtime: What ran it, with its version where it told.
        threads: Of the runtime.
    """

    name: str
    device: str
    via: str
    sha256: str
    runtime: str
    threads: int

    @property
    def common(self) -> dict[str, object]:
        """What the rows of all kinds have, as JSON."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(BenchRow)}

    def to_json(self) -> dict[str, object]:
        """The row as `--json` prints it."""
        return self.common


@dataclass(frozen=True, slots=True)
class Times:
    """What a device that keeps time measured. Without samples (no round counts) there are no figures.

    Attributes:
        samples_ms: Every timed inference that counts, in measuring order.
        low_ms: Lower end of the median's 95 % interval; None where nothing bounds it.
        high_ms: Its upper end.
        load_ms: Until the file was loaded; None where a runner of the user's does not tell.
        peak_rss_bytes: Of the process that ran the file; None likewise.
    """

    samples_ms: tuple[float, ...]
    low_ms: float | None
    high_ms: float | None
    load_ms: float | None
    peak_rss_bytes: int | None

    @classmethod
    def of(
        cls,
        samples_ms: tuple[float, ...],
        how: HowHere | HowOnPhone,
        load_ms: float | None,
        peak_rss_bytes: int | None,
    ) -> Times:
        """With the interval that how they were measured gives them."""
        if not samples_ms:
            return cls(samples_ms, None, None, load_ms, peak_rss_bytes)
        interval = latency_interval(samples_ms, how, "p50")
        low_ms, high_ms = (end if math.isfinite(end) else None for end in (interval.low, interval.high))
        return cls(samples_ms, low_ms, high_ms, load_ms, peak_rss_bytes)

    def percentile_ms(self, name: str) -> float | None:
        """`min`, `p50` …; None without samples."""
        return percentile(self.samples_ms, name) if self.samples_ms else None

    def to_json(self) -> dict[str, object]:
        return {
            "samples": len(self.samples_ms),
            "p50_low_ms": self.low_ms,
            "p50_high_ms": self.high_ms,
            **{f"{name}_ms": self.percentile_ms(name) for name in ("min", *PERCENTILES)},
            "load_ms": self.load_ms,
            "peak_rss_bytes": self.peak_rss_bytes,
            "samples_ms": list(self.samples_ms),
        }


@dataclass(frozen=True, slots=True)
class TimedRow(BenchRow):
    """On a device that keeps time.

    Attributes:
        times: What it measured.
    """

    times: Times

    def to_json(self) -> dict[str, object]:
        return {**self.common, **self.times.to_json()}


@dataclass(frozen=True, slots=True)
class HostRow(TimedRow):
    """On this host.

    Attributes:
        processes: One after another.
    """

    processes: tuple[ProcessTimes, ...]

    def to_json(self) -> dict[str, object]:
        return {**self.common, **self.times.to_json(), "processes": files.to_json(self.processes)}


@dataclass(frozen=True, slots=True)
class AgainstHost:
    """How far one output on a device lies from the same file's on this host.

    Attributes:
        output: Its name.
        samples: On so many.
        near: How near.
    """

    output: str
    samples: int
    near: Parity

    def to_json(self) -> dict[str, object]:
        figures = {name: files.finite(value) for name, value in dataclasses.asdict(self.near).items()}
        return {"output": self.output, "samples": self.samples, **figures}


@dataclass(frozen=True, slots=True)
class PhoneRow(TimedRow):
    """On a phone.

    Attributes:
        serial: Which phone.
        phone: What it is.
        how: How the file was timed.
        noise: How far results on it lie apart.
        against_host: Each output; empty where the runner runs no samples.
    """

    serial: str
    phone: Phone
    how: HowOnPhone
    noise: Noise
    against_host: tuple[AgainstHost, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            **self.common,
            **self.times.to_json(),
            "serial": self.serial,
            "phone": self.phone.to_json(),
            "against_host": [each.to_json() for each in self.against_host],
            "how": {**files.to_json(self.how), **dataclasses.asdict(self.noise)},
        }


@dataclass(frozen=True, slots=True)
class CountedRow(BenchRow):
    """On an emulated device.

    Attributes:
        counts: What one inference executes.
        estimated: What follows for cycles and time.
        layers: The estimate, operator by operator; empty where that was not asked for.
        supposed: What was supposed in words, and its estimate; None where nothing was.
    """

    counts: Counts
    estimated: Estimated
    layers: tuple[Layer, ...] = ()
    supposed: tuple[str, Estimated] | None = None

    def to_json(self) -> dict[str, object]:
        counts = self.counts.to_json()
        del counts["blocks"]
        content = {**self.common, "counts": counts, "estimate": self.estimated.to_json()}
        if self.layers:
            content["layers"] = [layer.to_json() for layer in self.layers]
        if self.supposed is not None:
            words, estimated = self.supposed
            content["supposed"] = {"what_if": words, "estimate": estimated.to_json(blocks=False)}
        return content


@dataclass(frozen=True, slots=True)
class Side:
    """One of two files that were compared.

    Attributes:
        name: The target's, or the file's.
        sha256: Of the file.
        p50_ms: Median of the samples of rounds that count; None where there are none.
        how: How it was timed.
    """

    name: str
    sha256: str
    p50_ms: float | None
    how: HowOnPhone


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """Two files timed in turns on one phone, or a file with itself (A/A).

    Attributes:
        device: The device's name.
        serial: Which phone.
        phone: What it is.
        file: What is judged.
        against: What it is held against.
        comparison: The difference and the verdict.
        noise_floor: What an A/A found; None where the files differ.
        kept_in: The file that keeps this noise floor.
    """

    device: str
    serial: str
    phone: Phone
    file: Side
    against: Side
    comparison: Comparison
    noise_floor: SessionNoise | None = None
    kept_in: str = ""

    @property
    def same_file(self) -> bool:
        """Whether it was an A/A."""
        return self.file.sha256 == self.against.sha256

    @property
    def passed(self) -> bool:
        """Whether the tolerance is kept; an A/A has none to keep."""
        return self.same_file or self.comparison.verdict == "PASS"

    def to_json(self) -> dict[str, object]:
        sides = (self.file, self.against)
        content: dict[str, object] = {
            "name": self.file.name,
            "against": self.against.name,
            "device": self.device,
            "via": "adb",
            "serial": self.serial,
            "phone": self.phone.to_json(),
            "sha256": [side.sha256 for side in sides],
            "p50_ms": [side.p50_ms for side in sides],
            "same_file": self.same_file,
            **_plain(self.comparison),
            "how": {"file": files.to_json(self.file.how), "against": files.to_json(self.against.how)},
        }
        if self.noise_floor is not None:
            content |= {"noise_floor": _plain(self.noise_floor), "kept_in": self.kept_in}
        return content


def _plain(result: Comparison | SessionNoise) -> dict[str, object]:
    """As JSON has it, which knows no infinity: an end that nothing bounds is null."""
    content = dataclasses.asdict(result)
    interval = content.get("difference_percent")
    if interval:
        content["difference_percent"] = {k: v if math.isfinite(v) else None for k, v in interval.items()}
    return content


@dataclass(frozen=True, slots=True)
class Benched:
    """All that one `pocketforge bench` found: rows of files, or comparisons.

    Attributes:
        rows: One for each file and device.
        compared: One for each file and phone, where two files (or one twice) were compared.
    """

    rows: Sequence[BenchRow] = ()
    compared: Sequence[ComparedRow] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every comparison kept its tolerance."""
        return all(row.passed for row in self.compared)

    def to_json(self) -> list[dict[str, object]]:
        return [*(row.to_json() for row in self.rows), *(row.to_json() for row in self.compared)]
