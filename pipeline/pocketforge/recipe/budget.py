"""A limit on one metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.device import (
    OUTPUT_METRICS,
    PER_DEVICE_METRICS,
)
from pocketforge.recipe.ranges import DECIBELS, SHARE_BELOW_ONE, Range

BudgetMetric = Literal[
    "size_bytes",
    "gzip_bytes",
    "accuracy_top1",
    "accuracy_drop",
    "metric",
    "parity_sqnr_db",
    "latency_ms",
    "load_ms",
    "peak_rss_bytes",
    "instructions",
    "estimated_cycles",
    "estimated_latency_ms",
    "parameters",
    "macs",
]


HIGHER_IS_BETTER = frozenset({"accuracy_top1", "accuracy_top5", "macro_f1", "r2", "correlation", "parity_sqnr_db"})


_BYTES = Range(0, 2**50, open_low=True, unit="bytes")
_MS = Range(0, 1e9, open_low=True, unit="milliseconds")
_MANY = Range(0, 1e18, open_low=True)
_SCORE = Range(0, 1, open_low=True, share=True)
_ERROR = Range(0, 1e30, open_low=True)
_CORRELATION = Range(-1, 1)
# A limit that every file keeps, or none can, is a slip. `metric` is of the recipe's own metric (recipe.py).
LIMITS: Mapping[str, Range] = {
    "size_bytes": _BYTES,
    "gzip_bytes": _BYTES,
    "accuracy_top1": _SCORE,
    "accuracy_drop": SHARE_BELOW_ONE,
    "parity_sqnr_db": DECIBELS,
    "latency_ms": _MS,
    "load_ms": _MS,
    "peak_rss_bytes": _BYTES,
    "instructions": _MANY,
    "estimated_cycles": _MANY,
    "estimated_latency_ms": _MS,
    "parameters": _MANY,
    "macs": _MANY,
}
METRIC_LIMITS: Mapping[str, Range] = {
    "accuracy_top1": _SCORE,
    "accuracy_top5": _SCORE,
    "macro_f1": _SCORE,
    "mean_absolute_error": _ERROR,
    "root_mean_square_error": _ERROR,
    "r2": _CORRELATION,
    "correlation": _CORRELATION,
}


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric: a maximum, or for accuracy, SQNR and F1 a minimum.

    Without `target` it holds for every target. Without `device` it holds for every device that gives the metric; one
    on the outputs (accuracy, SQNR) is then on the host's.
    """

    metric: BudgetMetric
    limit: float
    target: str = ""
    device: str = ""
    percentile: Literal["min", "p50", "p90", "p99"] = "p50"
    severity: Literal["error", "warning"] = "error"

    def __post_init__(self) -> None:
        fault = LIMITS[self.metric].fault(self.limit, f"limit of {self.metric}") if self.metric in LIMITS else ""
        if fault:
            raise ValueError(fault)
        if self.device and self.metric not in PER_DEVICE_METRICS | OUTPUT_METRICS:
            raise ValueError(f"{self.metric} does not depend on a device: leave out device = {self.device!r}")
        if self.percentile != "p50" and self.metric != "latency_ms":
            raise ValueError(f"percentile is for latency_ms, found metric {self.metric!r}")
