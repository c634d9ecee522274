"""Budgets × measurements → verdicts. Pure.

A budget that nothing was measured for is MISSING and fails: a limit nobody checks is not kept. Only a measured
`latency_ms` counts for a latency budget; emulated estimates have other metric names, and nothing
that comes from an emulator counts for a budget that a device has to keep. An estimate is judged with its interval, a
phone's latency also with its noise floor.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.device import MEASURED_METRICS
from pipeline.recipe import HIGHER_IS_BETTER, Budget, Recipe
from pipeline.records import GateResult, Measurement, Verdict
from pipeline.stats import percentile_interval, samples_needed


def judge(recipe: Recipe, measurements: Iterable[Measurement]) -> tuple[GateResult, ...]:
    """Every budget against every target and device it names (all of them where it names none)."""
    found = {
        (m.metric, m.target, m.device): m
        for m in measurements
        if not (m.metric in MEASURED_METRICS and m.via == "emulator")
    }
    results = []
    for budget in recipe.budgets:
        metric = recipe.task_metric if budget.metric == "metric" else budget.metric
        targets = [budget.target] if budget.target else [t.name for t in recipe.targets]
        for target in targets:
            for device in recipe.devices_of(budget):
                results.append(_judge_one(budget, metric, target, device, found.get((metric, target, device))))
    return tuple(results)


def _judge_one(budget: Budget, metric: str, target: str, device: str, measurement: Measurement | None) -> GateResult:
    if measurement is None:
        return GateResult(budget, target, device, None, None, "MISSING", "not measured")
    value = measurement.value
    verdict: Verdict
    reason = ""
    doubt = _doubt(measurement, budget)
    if doubt:
        return GateResult(budget, target, device, measurement, value, "INCONCLUSIVE", doubt)
    if measurement.samples:
        interval = percentile_interval(measurement.samples, budget.percentile)
        value = interval.value
        floor = measurement.how.get("noise_floor", 0.0)
        if floor and value / (1 + floor) <= budget.limit <= value * (1 + floor):
            reason = (
                f"the limit is within ±{floor:.1%} of the value, which is how far results on {device} lie apart "
                f"({measurement.how['noise_floor_from']})"
            )
            return GateResult(budget, target, device, measurement, value, "INCONCLUSIVE", reason)
        if interval.low <= budget.limit <= interval.high and interval.low != interval.high:
            needed = samples_needed(measurement.samples, budget.percentile, budget.limit)
            verdict = "INCONCLUSIVE"
            reason = f"95 % interval {interval.low:.4g} to {interval.high:.4g} {measurement.unit} holds the limit; " + (
                f"about {needed} samples would settle it (device min_samples)"
                if needed
                else "the limit is where the value is: no number of samples settles it"
            )
            return GateResult(budget, target, device, measurement, value, verdict, reason)
    kept = value >= budget.limit if metric in HIGHER_IS_BETTER else value <= budget.limit
    verdict = "PASS" if kept else "FAIL"
    if not kept:
        side = "under the minimum" if metric in HIGHER_IS_BETTER else "over the maximum"
        reason = f"{abs(value - budget.limit):.6g} {measurement.unit} {side}".replace("  ", " ")
    return GateResult(budget, target, device, measurement, value, verdict, reason)


def _doubt(measurement: Measurement, budget: Budget) -> str:
    """Why a value settles nothing: windows that differ, too few clean rounds, or an estimate's interval around it."""
    if not measurement.how.get("conclusive", True):
        return str(measurement.how["reason"])
    low, high = measurement.how.get("interval", (measurement.value, measurement.value))
    if low <= budget.limit <= high and low != high:
        share = measurement.how["coverage"]
        return (
            f"the estimate's {share:.0%} interval {low:.4g} to {high:.4g} {measurement.unit} holds the limit; "
            "gate on instructions, which are exact, or measure on the device"
        )
    return ""
