"""A budget against a baseline: no worse than by `max_regression` of its value. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from pocketforge.recipe import Budget
from pocketforge.recipe.metric import Metric
from pocketforge.records import GateResult, HowEstimated, Measurement
from pocketforge.results.relative import Change, change_of, check_alike, runs_that_decide, worst_allowed


def judge_regression(
    budget: Budget,
    row: Metric,
    target: str,
    device: str,
    before: Sequence[Measurement] | None,
    after: Sequence[Measurement],
) -> GateResult:
    """One budget on one target and device.

    before: of the baseline's runs; None where there is no such baseline. after: of this build's, the judged one last.
    A value that is not there, on either side, is MISSING.
    """
    result = GateResult(budget, target, device, None, None, "MISSING")
    if before is None:
        return dataclasses.replace(
            result,
            reason=f"there is no baseline {budget.baseline!r} "
            f"(pocketforge baseline set {budget.baseline} --from REPORT)",
        )
    if not after or not before:
        side = "not measured" if not after else f"baseline {budget.baseline!r} has no value of it"
        return dataclasses.replace(result, reason=side)
    result = dataclasses.replace(result, measurement=after[-1], value=after[-1].value, verdict="INCONCLUSIVE")
    for side, runs in (("the baseline's", before), ("this build's", after)):
        if len({each.artifact_sha256 for each in runs}) > 1:
            return dataclasses.replace(result, reason=f"{side} runs are of different files")
    try:
        check_alike(before, after)
        if before[-1].value <= 0 or after[-1].value <= 0:
            return _of_nothing(result, row, before[-1].value)
        change = change_of(before, after, budget.percentile)
    except ValueError as error:
        return dataclasses.replace(result, reason=f"not to be held against baseline {budget.baseline!r}: {error}")
    return _judged(result, row, change)


def _judged(result: GateResult, row: Metric, change: Change) -> GateResult:
    budget, lower = result.budget, row.better == "lower"
    allowed = worst_allowed(change.before, row.better, budget.max_regression)
    bound = 1 + budget.max_regression if lower else 1 - budget.max_regression
    resolved = dataclasses.replace(budget, limit=float(allowed))
    result = dataclasses.replace(result, budget=resolved, value=change.after)
    worse = (change.ratio.value - 1) * (1 if lower else -1)
    side = "worse" if worse > 0 else "better"
    found = f"{abs(worse):.2%} {side} than baseline {budget.baseline!r} ({change.before:.6g})"
    if change.exact:
        kept = Fraction(repr(change.after)) <= allowed if lower else Fraction(repr(change.after)) >= allowed
    else:
        ends = change.ratio.low, change.ratio.high
        surely, maybe = (ends[1] <= bound, ends[0] <= bound) if lower else (ends[0] >= bound, ends[1] >= bound)
        if maybe and not surely:
            return dataclasses.replace(result, reason=f"{found}; {_undecided(result, change, bound)}")
        kept = surely
    if kept:
        return dataclasses.replace(result, verdict="PASS")
    return dataclasses.replace(result, verdict="FAIL", reason=f"{found}, allowed is {budget.max_regression:.2%}")


def _undecided(result: GateResult, change: Change, bound: float) -> str:
    low, high = change.ratio.low - 1, change.ratio.high - 1
    held = f"the change's 98 % interval {low:+.2%} to {high:+.2%} holds the limit ({change.basis}); "
    if result.measurement is not None and isinstance(result.measurement.how, HowEstimated):
        return held + "an estimate's interval is the model's own: gate on instructions, which are exact"
    needed = runs_that_decide(change, bound)
    if needed is None:
        return held + "no number of runs settles it: the limit is where the value is, or nothing bounds a run"
    return held + f"about {needed} runs on each side would settle it (baseline set --add, gate --run)"


def _of_nothing(result: GateResult, row: Metric, before: float) -> GateResult:
    """Of 0 and of what is less there is no share: kept by what is no worse."""
    value = result.value if result.value is not None else before
    if row.keeps(value, before):
        return dataclasses.replace(result, budget=dataclasses.replace(result.budget, limit=before), verdict="PASS")
    reason = f"{value:.6g} is worse than baseline {result.budget.baseline!r}, {before:.6g}, of which there is no share"
    return dataclasses.replace(
        result, budget=dataclasses.replace(result.budget, limit=before), verdict="FAIL", reason=reason
    )
