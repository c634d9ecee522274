"""How a budget and its figures are written, in every format alike."""

from __future__ import annotations

from pocketforge.recipe import METRICS
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.metric import SIGNS
from pocketforge.recipe.worst_part import in_part, whole_metric
from pocketforge.records import GateResult, HowCarried, HowCompared, Measurement


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


def limit(gate: GateResult) -> str:
    """`≤ 5`; of a budget against a baseline `≤ main +5%`.

    Of a budget on `metric` the gate says which metric that is, and so which way it goes; in an older report only what
    was measured does.
    """
    named = output_and_name(gate.budget.metric)[1]
    name = gate.metric or (named if gate.measurement is None else whole_metric(gate.measurement.metric))
    metric = METRICS.if_usable(name)
    sign = f"{metric.sign} " if metric else ""
    how = gate.measurement.how if gate.measurement else None
    if isinstance(how, HowCompared) and how.better:
        sign = f"{SIGNS[how.better]} "
    budget = gate.budget
    if budget.baseline:
        if not budget.max_regression:
            return f"{sign}{budget.baseline}"
        way = "-" if sign.startswith(SIGNS["higher"]) else "+"
        return f"{sign}{budget.baseline} {way}{100 * budget.max_regression:.4g}%"
    return f"{sign}{budget.limit:,.10g}"


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
