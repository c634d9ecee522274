"""Budgets × measurements → verdicts. Pure.

A budget that nothing was measured for is MISSING and fails: a limit nobody checks is not kept. Only a measured
`latency_ms` counts for a latency budget; emulated estimates have other metric names, and nothing
that comes from an emulator counts for a budget that a device has to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.recipe import HIGHER_IS_BETTER, PER_DEVICE_METRICS, Budget, Recipe
from pipeline.records import GateResult, Measurement, Verdict
from pipeline.stats import percentile_interval, samples_needed


def judge(recipe: Recipe, measurements: Iterable[Measurement]) -> tuple[GateResult, ...]:
    """Every budget against every target and device it names (all of them where it names none)."""
    found = {
        (m.metric, m.target, m.device): m
        for m in measurements
        if not (m.metric in PER_DEVICE_METRICS and m.via == "emulator")
    }
    results = []
    for budget in recipe.budgets:
        metric = recipe.task_metric if budget.metric == "metric" else budget.metric
        targets = [budget.target] if budget.target else [t.name for t in recipe.targets]
        devices: Sequence[str] = [""]
        if budget.metric in PER_DEVICE_METRICS:
            devices = [budget.device] if budget.device else [d.name for d in recipe.devices]
        for target in targets:
            for device in devices:
                results.append(_judge_one(budget, metric, target, device, found.get((metric, target, device))))
    return tuple(results)


def _judge_one(budget: Budget, metric: str, target: str, device: str, measurement: Measurement | None) -> GateResult:
    if measurement is None:
        return GateResult(budget, target, device, None, None, "MISSING", "not measured")
    value = measurement.value
    verdict: Verdict
    reason = ""
    if measurement.samples:
        interval = percentile_interval(measurement.samples, budget.percentile)
        value = interval.value
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
