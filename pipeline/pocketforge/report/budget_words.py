"""How a budget and its figures are written, in every format alike."""

from __future__ import annotations

from pocketforge.recipe import METRICS
from pocketforge.records import GateResult


def budget_name(gate: GateResult) -> str:
    """The metric, and of a device's where it was measured: `latency_ms p90 on host`."""
    if not gate.device:
        return gate.budget.metric
    part = f" {gate.budget.percentile}" if gate.budget.metric == "latency_ms" else ""
    return f"{gate.budget.metric}{part} on {gate.device}"


def limit(gate: GateResult) -> str:
    """`≤ 5`. Of a budget on `metric` the gate says which metric that is, and so which way it goes; in an older report
    only what was measured does."""
    name = gate.metric or (gate.budget.metric if gate.measurement is None else gate.measurement.metric)
    metric = METRICS.if_usable(name)
    sign = f"{metric.sign} " if metric else ""
    return f"{sign}{gate.budget.limit:,.10g}"


def figure(value: float | None) -> str:
    """A measured value; empty where nothing was measured."""
    if value is None:
        return ""
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"
