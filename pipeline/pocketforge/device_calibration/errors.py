"""How far off: errors of a predictor on points, on ratios of points, and on what was left out of its fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.sampling import pairs

Predictor = Callable[[Sample], float]  # ms


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors |predicted / measured - 1| over some points, as fractions.

    Attributes:
        what: The points, in words.
        method: What predicted them.
        points: How many.
        median: Of the errors.
        p90: The error that one in ten exceeds.
        worst: The largest.
        bias: The median signed error.
    """

    what: str
    method: str
    points: int
    median: float
    p90: float
    worst: float
    bias: float

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One network's cycles in two precisions.

    Attributes:
        ratio: Which, in words.
        measured: As measured.
        estimated: As estimated.
    """

    ratio: str
    measured: float
    estimated: float


@dataclass(frozen=True, slots=True)
class Share:
    """Of how many points something holds.

    Attributes:
        what: What holds, in words.
        method: What predicted the points.
        points: How many.
        share: Of them, 0 to 1.
    """

    what: str
    method: str
    points: int
    share: float


def summarize(what: str, method: str, ratios: Sequence[float]) -> Summary:
    """From predicted/measured. Raises ValueError without any."""
    if not ratios:
        raise ValueError(f"no points: {what}")
    signed = np.array(ratios) - 1
    size = np.abs(signed)
    return Summary(
        what,
        method,
        len(ratios),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(size.max()),
        float(np.median(signed)),
    )


def of_points(what: str, method: str, samples: Sequence[Sample], predict: Predictor) -> Summary:
    """Errors of latencies."""
    return summarize(what, method, [predict(s) / s.measurement.latency_ms for s in samples])


def of_ratios(what: str, method: str, samples: Sequence[Sample], predict: Predictor) -> Summary | None:
    """Errors of speed-ups, predicted over measured, of all pairs within a cell; None without any pair."""
    by_name = {(s.measurement.name, s.kernels): s for s in samples}
    ratios = []
    for kernels in sorted({s.kernels for s in samples}):
        measured = [s.measurement for s in samples if s.kernels == kernels]
        for slow, fast in pairs(measured):
            a, b = by_name[slow.name, kernels], by_name[fast.name, kernels]
            ratios.append(predict(a) / predict(b) / (slow.latency_ms / fast.latency_ms))
    return summarize(what, method, ratios) if ratios else None


def of_signs(what: str, method: str, samples: Sequence[Sample], predict: Predictor) -> Share | None:
    """Of pairs that pruning makes at least 5 % faster: how many are predicted to be; None without any pair."""
    by_name = {(s.measurement.name, s.kernels): s for s in samples}
    right = []
    for kernels in sorted({s.kernels for s in samples}):
        for slow, fast in pairs([s.measurement for s in samples if s.kernels == kernels], apart=1.05):
            right.append(predict(by_name[slow.name, kernels]) > predict(by_name[fast.name, kernels]))
    return Share(what, method, len(right), float(np.mean(right))) if right else None


def across_precisions(samples: Sequence[Sample], predict: Predictor) -> list[Ratio]:
    """Cycles of fp32 over int8 for each network on one core type."""
    ratios = []
    for a in samples:
        for b in samples:
            same = (a.measurement.name, a.measurement.core, a.kernels) == (
                b.measurement.name,
                b.measurement.core,
                b.kernels,
            )
            if same and (a.measurement.precision, b.measurement.precision) == ("fp32", "int8"):
                measured = (a.measurement.latency_ms * a.measurement.clock_ghz) / (
                    b.measurement.latency_ms * b.measurement.clock_ghz
                )
                predicted = (predict(a) * a.measurement.clock_ghz) / (predict(b) * b.measurement.clock_ghz)
                ratios.append(Ratio(f"{a.measurement.name} fp32/int8, {a.measurement.core}", measured, predicted))
    return ratios
