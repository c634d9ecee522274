"""How a budget and its figures are written, in every format alike."""

from __future__ import annotations

from pocketforge.recipe import METRICS
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.metric import SIGNS, Better, Metric
from pocketforge.recipe.worst_part import in_part, whole_metric
from pocketforge.records import GateResult, HowCarried, HowCompared, Measurement

# A budget that is kept with less room than this is worth a look (docs/report.md).
NEAR = 0.05


def budget_name(gate: GateResult) -> str:
    """The metric, and of a device's where it was measured: `latency_ms p90 on host`; on each slice or class which one
    the value is of: `accuracy_top1 by slice device (worst: pixel)`."""
    part = f" {gate.budget.percentile}" if gate.budget.metric == "latency_ms" else ""
    metric = in_part(gate.budget.metric, gate.budget.slice, gate.budget.per)
    how = gate.measurement.how if gate.measurement else None
    worst = f" (worst: {how.worst or 'none given'})" if isinstance(how, HowCompared) and how.worst is not None else ""
    device = f" on {gate.device}" if gate.device else ""
    return f"{metric}{part}{worst}{device}"


def verdict_words(gate: GateResult) -> str:
    """`FAIL (warning)`, `MISSING (waived)`."""
    softer = "warning" if gate.budget.severity == "warning" else "waived" if gate.waiver else ""
    return f"{gate.verdict} ({softer})" if softer else gate.verdict


def better_of(gate: GateResult) -> Better | None:
    """Which values of a budget's metric are better. Of a budget on `metric` the gate says which metric that is; in an
    older report only what was measured does. None where nobody says it: a user's own metric that was not measured."""
    how = gate.measurement.how if gate.measurement else None
    if isinstance(how, HowCompared) and how.better:
        return how.better
    metric = _row(gate)
    return metric.better if metric else None


def limit(gate: GateResult) -> str:
    """`≤ 5`; of a budget against a baseline `≤ main +5%`."""
    better, budget = better_of(gate), gate.budget
    sign = f"{SIGNS[better]} " if better else ""
    if not budget.baseline:
        return f"{sign}{budget.limit:,.10g}"
    if not budget.max_regression:
        return f"{sign}{budget.baseline}"
    return f"{sign}{budget.baseline} {'-' if better == 'higher' else '+'}{100 * budget.max_regression:.4g}%"


def room(gate: GateResult) -> float | None:
    """How far a value is from its limit, as a share of the limit; of a share that is to be high (top-1 ≥ 0.98), of what
    lies between the limit and 1. Negative beyond it. None where there is no value, where it is held against a baseline,
    or where the limit is 0 and the value not."""
    better, limit = better_of(gate), gate.budget.limit
    if gate.value is None or better is None or gate.budget.baseline:
        return None
    left = limit - gate.value if better == "lower" else gate.value - limit
    metric = _row(gate)
    whole = 1 - limit if better == "higher" and metric and metric.limits.share and limit < 1 else abs(limit)
    return 0.0 if left == 0 else left / whole if whole else None


def spare(gate: GateResult) -> str:
    """`room` in words: `12 %`, `-3 %`; empty where there is none."""
    left = room(gate)
    return "" if left is None else f"{100 * left:,.0f} %"


def near(gate: GateResult) -> bool:
    """Whether a budget is kept with little room."""
    left = room(gate)
    return gate.verdict == "PASS" and left is not None and left < NEAR


def _row(gate: GateResult) -> Metric | None:
    named = output_and_name(gate.budget.metric)[1]
    return METRICS.if_usable(
        gate.metric or (named if gate.measurement is None else whole_metric(gate.measurement.metric))
    )


def output_of(measurement: Measurement) -> str:
    """The output that a metric of several outputs is of; empty where there is one, and of a file's worst."""
    how, row = measurement.how, METRICS.if_usable(measurement.metric)
    if not isinstance(how, HowCompared) or (row is not None and not row.roles):
        return ""
    return how.output or ""


def carried(measurement: Measurement) -> str:
    """What an app was counted to carry, with the library and its version; empty of any other value."""
    how = measurement.how
    if not isinstance(how, HowCarried):
        return ""
    value = f"{measurement.target}: {measurement.metric} {figure(measurement.value)}"
    parts = f"the file {how.model_part_bytes:,}, {how.library} {how.library_part_bytes:,}"
    return f"{value}: {parts} ({how.as_sent}; {how.abi}; size from {how.library_from})"


def figure(value: float | None) -> str:
    """A measured value; empty where nothing was measured."""
    if value is None:
        return ""
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"
