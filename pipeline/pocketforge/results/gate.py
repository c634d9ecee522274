"""Budgets × measurements → verdicts. Pure.

A budget that nothing was measured for is MISSING and fails: a limit nobody checks is not kept. Only a measured
`latency_ms` counts for a latency budget; emulated estimates have other metric names, and nothing
that comes from an emulator counts for a budget that a device has to keep. An estimate is judged with its interval, a
latency too (latency.py), a phone's also with its noise floor. A budget with a baseline is in regression.py.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from pocketforge.recipe import METRICS, Budget, Recipe
from pocketforge.recipe.budget import THE_TASKS
from pocketforge.recipe.metric import Metric
from pocketforge.recipe.output_rules import Named, find_metric, rows_of
from pocketforge.recipe.worst_part import in_part
from pocketforge.records import (
    GateResult,
    How,
    HowCarried,
    HowCompared,
    HowCounted,
    HowEstimated,
    HowHere,
    HowOnThePhone,
    Measurement,
    Verdict,
)
from pocketforge.registries import DEVICES
from pocketforge.results.app_size import is_of_app
from pocketforge.results.baselines import Baselines
from pocketforge.results.latency import latency_interval, load_range, what_settles
from pocketforge.results.plugin_words import in_our_words
from pocketforge.results.regression import judge_regression
from pocketforge.results.waivers import today, waived
from pocketforge.stats import Interval

# Values are rounded to 9 digits.
_NOTHING = 1e-9


def judge(
    recipe: Recipe,
    measurements: Iterable[Measurement],
    *,
    baselines: Baselines | None = None,
    further: Sequence[Sequence[Measurement]] = (),
    day: datetime.date | None = None,
) -> tuple[GateResult, ...]:
    """Every budget against every target and device it names (all of them where it names none).

    baselines: what budgets with `baseline` are held against. further: of other runs of the same files, which these
    budgets also count. day: on which waivers hold; today.
    """
    all_taken = tuple(measurements)
    results = []
    for budget in recipe.budgets:
        named = _named(recipe, budget)
        measured, of_others = _measured(recipe, budget, named, all_taken)
        whole = _whole(recipe, named, all_taken)
        old = None if baselines is None else baselines.get(budget.baseline)
        before = None if old is None else [_measured(recipe, budget, named, run.measurements)[0] for run in old]
        others = [_measured(recipe, budget, named, run)[0] for run in further] if budget.baseline else []
        targets = [budget.target] if budget.target else [t.name for t in recipe.targets]
        for target in targets:
            for device in recipe.devices_of(budget):
                place = (target, device)
                of_device = measured.get(place)
                if budget.baseline:
                    runs = [run.get(place) for run in (*others, measured)] if of_device else []
                    known = None if before is None else [run[place] for run in before if place in run]
                    result = judge_regression(budget, named.row, target, device, known, [*filter(None, runs)])
                else:
                    result = _judge_one(budget, named.row, target, device, of_device)
                # A part of the samples from whose value nothing falls has no drop (scores.py).
                at_all = None if budget.slice or budget.per == "class" else whole.get(place)
                baseless = _without_baseline(named.row, of_device, at_all)
                result = dataclasses.replace(result, verdict="FAIL", reason=baseless) if baseless else result
                if of_device is None and target in of_others:
                    result = dataclasses.replace(result, reason=f"measured for another app: {of_others[target]}")
                result = dataclasses.replace(result, metric=named.name) if budget.metric == THE_TASKS else result
                results.append(waived(result, recipe.waivers, day or today()))
    return tuple(results)


_Places = dict[tuple[str, str], Measurement]


def _measured(
    recipe: Recipe, budget: Budget, named: Named, all_taken: Sequence[Measurement]
) -> tuple[_Places, dict[str, str]]:
    """Target and device → what a budget is on there; and target → which other app its values are of."""
    output, alone = _output_of(recipe, named)
    wanted = in_part(named.name, budget.slice, budget.per)
    taken = [m for m in all_taken if m.metric == wanted and _is_of(m, output, alone=alone) and _counts(m, named.row)]
    taken, of_others = _of_the_app(recipe, taken)
    return {(m.target, m.device): m for m in taken}, of_others


def _whole(recipe: Recipe, named: Named, all_taken: Sequence[Measurement]) -> _Places:
    """What a drop is a drop of."""
    output, alone = _output_of(recipe, named)
    found = (m for m in all_taken if m.metric == named.row.drop_of and _is_of(m, output, alone=alone))
    return {(m.target, m.device): m for m in found}


def _output_of(recipe: Recipe, named: Named) -> tuple[str, bool]:
    """The output's name, empty where a metric is of none; and whether no other output takes the metric."""
    output = recipe.judged[named.output].name if named.output is not None else ""
    return output, sum(named.name in rows_of(each) for each in recipe.judged) <= 1


def _of_the_app(recipe: Recipe, taken: list[Measurement]) -> tuple[list[Measurement], dict[str, str]]:
    """Values without those of another app than the recipe's; and target → which app these are of, in words.

    `pocketforge gate --recipe` judges a report by a recipe that may say another ABI or library.
    """
    runtimes = {target.name: target.runtime for target in recipe.targets}
    others = {}
    for each in taken:
        how, runtime = each.how, runtimes.get(each.target)
        if isinstance(how, HowCarried) and runtime and not is_of_app(how, each.metric, recipe, runtime):
            others[each.target] = f"{how.library}, {how.abi}, {how.as_sent}"
    return [each for each in taken if each.target not in others], others


def _without_baseline(row: Metric, drop: Measurement | None, whole: Measurement | None) -> str:
    """Why a drop says nothing: from 0 nothing falls, and every file keeps every limit. Empty where it does.

    row: of the drop. whole: the value that it is a drop of, of the same file.
    """
    plain = METRICS.get(row.drop_of) if row.drop_of else None
    # Of errors 0 is the best value; below r2's, a correlation's or decibels' 0 there is more.
    if plain is None or drop is None or whole is None or plain.better != "higher" or plain.limits.low != 0:
        return ""
    before = whole.value + drop.value
    return "" if before > _NOTHING else f"the PyTorch model's own {row.drop_of} is 0: a drop from it says nothing"


def _counts(measurement: Measurement, row: Metric) -> bool:
    """Whether a budget can be on it: a time is of what keeps time. A kind of device that is not known does not."""
    if row.place != "timed":
        return True
    return measurement.via in DEVICES and DEVICES[measurement.via].keeps_time


def _named(recipe: Recipe, budget: Budget) -> Named:
    """What the budget's metric is. A recipe's rules hold that there is one."""
    found = find_metric(recipe.task_metric if budget.metric == THE_TASKS else budget.metric, recipe.judged)
    assert found is not None, "a recipe whose budget is on a metric that nothing takes is none"
    return found


def _is_of(measurement: Measurement, output: str, *, alone: bool) -> bool:
    """Whether a value is of the wanted output. alone: no other takes the metric, so values need not say whose."""
    how = measurement.how
    said = how.output if isinstance(how, HowCompared) else None
    return not output or said == output or (said is None and alone)


def _judge_one(budget: Budget, row: Metric, target: str, device: str, measurement: Measurement | None) -> GateResult:
    if measurement is None:
        part = f", or a value of {budget.slice} gives none: see the warnings" if budget.slice else ""
        return GateResult(budget, target, device, None, None, "MISSING", f"not measured{part}")
    value = measurement.value
    verdict: Verdict
    reason = ""
    forms = in_our_words(measurement.how)
    doubt = next(filter(None, (_doubt(measurement, how, budget) for how in forms)), "")
    if doubt:
        return GateResult(budget, target, device, measurement, value, "INCONCLUSIVE", doubt)
    if measurement.samples:
        interval = latency_interval(measurement.samples, forms[0], budget.percentile)
        value = interval.value
        reason = next(filter(None, (_undecided(measurement, how, interval, budget) for how in forms)), "")
        if reason:
            return GateResult(budget, target, device, measurement, value, "INCONCLUSIVE", reason)
    is_kept = row.keeps(value, budget.limit)
    verdict = "PASS" if is_kept else "FAIL"
    if not is_kept:
        side = "under the minimum" if row.better == "higher" else "over the maximum"
        reason = f"{abs(value - budget.limit):.6g} {measurement.unit} {side}".replace("  ", " ")
        reason += _whose(budget, measurement)
    return GateResult(budget, target, device, measurement, value, verdict, reason)


def _whose(budget: Budget, measurement: Measurement) -> str:
    """Of a budget on each part of the samples: the part that the value is of, the worst."""
    how = measurement.how
    if not isinstance(how, HowCompared) or how.worst is None:
        return ""
    of = f" (of {how.samples} samples)" if budget.slice else ""
    return f": {budget.slice or budget.per} {how.worst!r}{of}"


def _undecided(measurement: Measurement, how: How, interval: Interval, budget: Budget) -> str:
    """Why samples do not settle on which side of the limit the value is; empty when they do."""
    limit, name, value = budget.limit, budget.percentile, interval.value
    if isinstance(how, HowOnThePhone):
        floor = how.noise_floor
        if floor and value / (1 + floor) <= limit <= value * (1 + floor):
            return (
                f"the limit is within ±{floor:.1%} of the value, which is how far results on {measurement.device} lie "
                f"apart ({how.noise_floor_from})"
            )
    if not interval.low <= limit <= interval.high or interval.low == interval.high:
        return ""
    held = f"95 % interval {interval.low:.4g} to {interval.high:.4g} {measurement.unit} holds the limit; "
    return held + what_settles(measurement.samples, how, name, limit)


def _doubt(measurement: Measurement, how: How, budget: Budget) -> str:
    """Why a value settles nothing: windows that differ, too few clean rounds, processes that loaded it in times on both
    sides, or an estimate's interval around it."""
    if isinstance(how, HowOnThePhone | HowCounted) and not how.conclusive:
        return how.reason
    loads = load_range(how) if measurement.metric == "load_ms" else None
    if loads and isinstance(how, HowHere) and loads[0] <= budget.limit <= loads[1]:
        count = len(how.processes)
        return f"{count} processes loaded it in {loads[0]:.4g} to {loads[1]:.4g} ms, on both sides of the limit"
    if isinstance(how, HowEstimated):
        low, high = how.interval
        if low <= budget.limit <= high and low != high:
            return (
                f"the estimate's {how.coverage:.0%} interval {low:.4g} to {high:.4g} {measurement.unit} holds the "
                "limit; gate on instructions, which are exact, or measure on the device"
            )
    return ""
