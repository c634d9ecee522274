"""The metrics of files, models and devices, each with all that is known of it, and limits on them.

METRICS is the one place of a metric: recipes take its name from there, the gate which way is better, reports its unit
and how it is written. A metric of the file itself needs no other place than its row (`taken_by`); any other one is
also taken where its figures arise, by a stage, and named in results/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pocketforge.plugins import Registry
from pocketforge.recipe.names import NameOf
from pocketforge.recipe.ranges import DECIBELS, SHARE_BELOW_ONE, Range

Better = Literal["higher", "lower"]
Place = Literal["file", "model", "outputs", "timed", "emulated"]
Task = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Metric:
    """All that is known of one metric.

    Attributes:
        unit: Of its values, as reports say it; empty where they are shares or plain numbers.
        better: Which values are better. A budget is then a minimum or a maximum.
        place: Where it is taken. "file": from the file's bytes. "model": from the PyTorch model. "outputs": from the
            outputs of the file, on the host and on each device that computes with other kernels. "timed": on each
            device that keeps time. "emulated": on each emulated device.
        title: The head of its column in tables, with the unit.
        form: How tables write a value, as `format` takes it.
        limits: What a budget's limit may be: one that every file keeps, or none can, is a slip.
        task: The only task that has it; empty when all have.
        in_budgets: Whether [[budget]] may name it.
        of_task: Whether a recipe's `metric` may name it: a budget on `metric` is then on this one.
        column: Whether a report's table of measured values has a column for it, where it was measured. Sizes, latencies
            and what emulated devices give have tables of their own.
        taken_by: `module:function` that takes a file's path and gives the value; of "file" metrics alone, and empty for
            the two that every file's record has.
    """

    unit: str
    better: Better
    place: Place
    title: str
    form: str
    limits: Range
    task: Task | Literal[""] = ""
    in_budgets: bool = True
    of_task: bool = False
    column: bool = False
    taken_by: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError: a row that lacks something is a fault of the program, or of a plug-in, and not a guess."""
        for what, value, known in (("better", self.better, get_args(Better)), ("place", self.place, get_args(Place))):
            if value not in known:
                raise ValueError(f"{what} of a metric must be one of {', '.join(known)}, found {value!r}")
        if not self.title:
            raise ValueError("title of a metric is empty: tables would have a column without a head")
        try:
            written = format(1.0, self.form)
        except ValueError as error:
            raise ValueError(f"form of a metric must be as format takes it, found {self.form!r}: {error}") from None
        if not self.form or not written:
            raise ValueError("form of a metric is empty: tables would show all digits of a float")
        if self.of_task and (self.place != "outputs" or not self.task):
            raise ValueError("a metric of a task is of the outputs, and says of which task")
        if self.taken_by and (self.place != "file" or not all(self.taken_by.partition(":"))):
            raise ValueError(f"taken_by is `module:function` of a metric of the file, found {self.taken_by!r}")

    @property
    def sign(self) -> str:
        """Between a metric and its limit."""
        return "≥" if self.better == "higher" else "≤"

    def keeps(self, value: float, limit: float) -> bool:
        return value >= limit if self.better == "higher" else value <= limit


_BYTES = Range(0, 2**50, open_low=True, unit="bytes")
_MS = Range(0, 1e9, open_low=True, unit="milliseconds")
_MANY = Range(0, 1e18, open_low=True)
_SCORE = Range(0, 1, open_low=True, share=True)
_ERROR = Range(0, 1e30, open_low=True)
_CORRELATION = Range(-1, 1)


def _error(title: str) -> Metric:
    return Metric(
        "", "lower", "outputs", title, ".4g", _ERROR, "regression", in_budgets=False, of_task=True, column=True
    )


_METRICS = {
    "size_bytes": Metric("bytes", "lower", "file", "bytes", ",.0f", _BYTES),
    "gzip_bytes": Metric("bytes", "lower", "file", "gzip -9", ",.0f", _BYTES),
    "accuracy_top1": Metric(
        "", "higher", "outputs", "top-1", ".4f", _SCORE, "classification", of_task=True, column=True
    ),
    "accuracy_top5": Metric(
        "", "higher", "outputs", "top-5", ".4f", _SCORE, "classification", in_budgets=False, of_task=True
    ),
    "macro_f1": Metric("", "higher", "outputs", "F1", ".4f", _SCORE, "classification", in_budgets=False, of_task=True),
    "mean_absolute_error": _error("MAE"),
    "root_mean_square_error": _error("RMSE"),
    "r2": Metric(
        "", "higher", "outputs", "R²", ".4f", _CORRELATION, "regression", in_budgets=False, of_task=True, column=True
    ),
    "correlation": Metric(
        "", "higher", "outputs", "r", ".4f", _CORRELATION, "regression", in_budgets=False, of_task=True
    ),
    "accuracy_drop": Metric("", "lower", "outputs", "drop", "+.4f", SHARE_BELOW_ONE, "classification", column=True),
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


def is_budget_metric(name: str) -> bool:
    """Whether [[budget]] may name it. Raises PluginFailed for one whose package is broken."""
    return name == THE_TASKS or (name in METRICS and METRICS[name].in_budgets)


def task_metrics() -> tuple[str, ...]:
    """What a recipe's `metric` may name: ours, since no package can take it (see `_fault_of_plugin`)."""
    return tuple(name for name, metric in _METRICS.items() if metric.of_task)


def is_task_metric(name: str) -> bool:
    return name in _METRICS and _METRICS[name].of_task


def place_of(metric: str) -> Place:
    """Where a metric is taken that a budget names."""
    return "outputs" if metric == THE_TASKS else METRICS[metric].place


# Metric → what a budget's limit may be; of `metric` it is the recipe's that says so (recipe.py).
def limits() -> Mapping[str, Range]:
    return {name: metric.limits for name, metric in METRICS.usable().items() if metric.in_budgets}


BudgetMetric = Annotated[str, NameOf(budget_metrics, is_budget_metric)]
TaskMetric = Annotated[str, NameOf(task_metrics, is_task_metric)]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric: a maximum, or for accuracy, SQNR and F1 a minimum.

    Attributes:
        metric: A metric's name, or "metric" for the one that the recipe's own `metric` names.
        limit: In the metric's unit.
        target: The target that it holds for; empty for every target.
        device: The device that it holds for; empty for every device that gives the metric. One on the outputs
            (accuracy, SQNR) is then on the host's.
        percentile: Of a latency's samples.
        severity: A "warning" is said, and the build does not fail by it.
    """

    metric: BudgetMetric
    limit: float
    target: str = ""
    device: str = ""
    percentile: Literal["min", "p50", "p90", "p99"] = "p50"
    severity: Literal["error", "warning"] = "error"

    def __post_init__(self) -> None:
        metric = METRICS.if_usable(self.metric)  # a report may be of a metric that is not installed here
        fault = metric.limits.fault(self.limit, f"limit of {self.metric}") if metric else ""
        if fault:
            raise ValueError(fault)
        if self.device and metric and metric.place in ("file", "model"):
            raise ValueError(f"{self.metric} does not depend on a device: leave out device = {self.device!r}")
        if self.percentile != "p50" and self.metric != "latency_ms":
            raise ValueError(f"percentile is for latency_ms, found metric {self.metric!r}")
