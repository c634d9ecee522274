"""A limit on one metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.device import (
    OUTPUT_METRICS,
    PER_DEVICE_METRICS,
)

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
        if self.device and self.metric not in PER_DEVICE_METRICS | OUTPUT_METRICS:
            raise ValueError(f"{self.metric} does not depend on a device: leave out device = {self.device!r}")
        if self.percentile != "p50" and self.metric != "latency_ms":
            raise ValueError(f"percentile is for latency_ms, found metric {self.metric!r}")
