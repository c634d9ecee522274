"""The metrics of files, models and devices, each with all that is known of it, and limits on them.

METRICS is the one place of a metric: recipes take its name from there, the gate which way is better, reports its unit
and how it is written. A metric of the file itself needs no other place than its row (`taken_by`); any other one is
also taken where its figures arise, by a stage, and named in results/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pocketforge.plugins import Registry
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.metric import Better, Metric, Place, Task
from pocketforge.recipe.metrics_of_outputs import ROWS
from pocketforge.recipe.names import check_name
from pocketforge.recipe.ranges import DECIBELS, SHARE_BELOW_ONE, Range

__all__ = [
    "METRICS",
    "THE_TASKS",
    "Better",
    "Budget",
    "Metric",
    "Place",
    "Task",
    "budget_metrics",
    "limits",
    "output_and_name",
]

_BYTES = Range(0, 2**50, open_low=True, unit="bytes")
_MS = Range(0, 1e9, open_low=True, unit="milliseconds")
_MANY = Range(0, 1e18, open_low=True)


_METRICS = {
    "size_bytes": Metric("bytes", "lower", "file", "bytes", ",.0f", _BYTES),
    "gzip_bytes": Metric("bytes", "lower", "file", "gzip -9", ",.0f", _BYTES),
    # With the library of the file's runtime ([app]): taken where a budget asks for it.
    "app_download_bytes": Metric("bytes", "lower", "file", "app download bytes", ",.0f", _BYTES),
    "app_installed_bytes": Metric("bytes", "lower", "file", "app installed bytes", ",.0f", _BYTES),
    **ROWS,
    "accuracy_drop": Metric(
        "",
        "lower",
        "outputs",
        "drop",
        "+.4f",
        SHARE_BELOW_ONE,
        "classification",
        ("logits",),
        counted=True,
        drop_of="accuracy_top1",
        column=True,
    ),
    "parity_sqnr_db": Metric("dB", "higher", "outputs", "SQNR dB", ".1f", DECIBELS, column=True),
    "latency_ms": Metric("ms", "lower", "timed", "p50 ms", ".3f", _MS),
    "load_ms": Metric("ms", "lower", "timed", "load ms", ".1f", _MS, column=True),
    "peak_rss_bytes": Metric("bytes", "lower", "timed", "peak bytes", ",.0f", _BYTES),
    "instructions": Metric("instructions", "lower", "emulated", "instructions", ",.0f", _MANY),
    "estimated_cycles": Metric("cycles", "lower", "emulated", "estimated cycles", ",.0f", _MANY),
    "estimated_latency_ms": Metric("ms", "lower", "emulated", "estimated ms", ".3g", _MS),
    "parameters": Metric("", "lower", "model", "parameters", ",.0f", _MANY),
    "macs": Metric("", "lower", "model", "MACs", ",.0f", _MANY),
}
# A budget on it is on the metric that the recipe's own `metric` names.
THE_TASKS = "metric"


def _fault_of_plugin(metric: Metric) -> str:
    """Why a package cannot bring this metric: nothing would take it, and a recipe could name it all the same."""
    if metric.of_task or metric.place == "model":
        what = "of_task" if metric.of_task else 'place = "model"'
        return f"{what} is for metrics of Pocketforge's own: no step would take it"
    if metric.place == "file" and not metric.taken_by:
        return 'a metric of place = "file" says in taken_by which function takes it'
    return ""


_RESERVED = {THE_TASKS: "a budget on it is on the metric of the recipe's own task"}
METRICS = Registry("metrics", Metric, _METRICS, fault_of=_fault_of_plugin, reserved=_RESERVED)


def budget_metrics() -> tuple[str, ...]:
    """What [[budget]] may name; those of packages by their metadata alone, which does not say that one may not."""
    return (*(name for name in METRICS if name not in _METRICS or _METRICS[name].in_budgets), THE_TASKS)


def task_metrics() -> tuple[str, ...]:
    """What a recipe's `metric` may name: ours, since no package can take it (see `_fault_of_plugin`)."""
    return tuple(name for name, metric in _METRICS.items() if metric.of_task)


def output_and_name(word: str) -> tuple[str, str]:
    """`mask.miou` → ("mask", "miou"); of a word without an output ("", word)."""
    output, _, name = word.rpartition(".")
    return output, name


def place_of(metric: str) -> Place:
    """Where a metric is taken that a budget names. One that is in no row is a user's, of an output."""
    row = METRICS.if_usable(output_and_name(metric)[1])
    return row.place if row else "outputs"


# Metric → what a budget's limit may be; of `metric` it is the recipe's that says so (recipe.py).
def limits() -> Mapping[str, Range]:
    return {name: metric.limits for name, metric in METRICS.usable().items() if metric.in_budgets}


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric: a maximum, or for accuracy, SQNR and F1 a minimum.

    Attributes:
        metric: A metric's name, `OUTPUT.NAME` for one output's, or "metric" for the one that the recipe's own `metric`
            names.
        limit: In the metric's unit. With `baseline` it is not written: a report has what followed from the baseline
            there, and 0 where there is none.
        target: The target that it holds for; empty for every target.
        device: The device that it holds for; empty for every device that gives the metric. One on the outputs
            (accuracy, SQNR) is then on the host's.
        percentile: Of a latency's samples.
        severity: A "warning" is said, and the build does not fail by it.
        slice: A column of `data.columns.slices`: the limit holds for the samples of each of its values. Empty for all
            samples together.
        per: "class": the limit holds for each class. "all": for all together.
        baseline: The name of a baseline (results/baselines.py) that the value may be worse than by `max_regression`;
            empty of a budget with a limit of its own.
        max_regression: By how much it may be worse, as a share of the baseline's value.
    """

    metric: str
    limit: float = math.nan
    target: str = ""
    device: str = ""
    percentile: Literal["min", "p50", "p90", "p99"] = "p50"
    severity: Literal["error", "warning"] = "error"
    slice: str = ""
    per: Literal["all", "class"] = "all"
    baseline: str = ""
    max_regression: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.limit) and not self.baseline:
            raise WrongTable(Fault("missing", "limit"))
        if self.max_regression and not self.baseline:
            raise ValueError("max_regression says worse than what: baseline = NAME")
        if not 0 <= self.max_regression < 1:
            raise ValueError(
                f"max_regression must be 0 or more and less than 1 (0.05 is 5 %), found {self.max_regression}"
            )
        if math.isnan(self.limit):
            object.__setattr__(self, "limit", 0.0)
        metric = METRICS.if_usable(
            output_and_name(self.metric)[1]
        )  # a report may be of a metric that is not installed here
        fault = metric.limits.fault(self.limit, f"limit of {self.metric}") if metric and not self.baseline else ""
        if fault:
            raise ValueError(fault)
        if self.device and metric and metric.place in ("file", "model"):
            raise ValueError(f"{self.metric} does not depend on a device: leave out device = {self.device!r}")
        key = "slice" if self.slice else "per" if self.per == "class" else ""
        if self.slice and self.per == "class":
            raise ValueError(f"slice = {self.slice!r} and per = {self.per!r}: one budget for each")
        if key and metric and (metric.place != "outputs" or not (metric.roles or metric.task)):
            raise ValueError(f"{key} is for what outputs are held against targets by, found metric {self.metric!r}")
        if self.baseline and metric and metric.drop_of:
            raise ValueError(f"{self.metric} is a drop already: put the baseline's budget on {metric.drop_of}")
        if self.baseline and key:
            why = "the worst part may be another one in the baseline, and what the others lost would not be seen"
            raise ValueError(f"{key} with a baseline: {why}; give each part a limit")
        if self.baseline:
            check_name(self.baseline, "baseline")
        if self.percentile != "p50" and self.metric != "latency_ms":
            raise ValueError(f"percentile is for latency_ms, found metric {self.metric!r}")
