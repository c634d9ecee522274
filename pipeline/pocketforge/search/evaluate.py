"""Measures trials by the ordinary build: their recipes' steps, by the store, so that they share what is alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pocketforge import events
from pocketforge.errors import ModelError, RecipeError, StageFailed
from pocketforge.facts.gather import gather
from pocketforge.facts.phones import without_absent
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Emulated, Facts, Lane, Plan, Step
from pocketforge.recipe import Budget, Objective, Recipe
from pocketforge.recipe.budget import THE_TASKS, place_of
from pocketforge.recipe.output_rules import find_metric
from pocketforge.records import HowCompared, Measurement, Report, TargetRecord
from pocketforge.results.baselines import Baselines
from pocketforge.results.report import make_report
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan
from pocketforge.search.constraints import violations
from pocketforge.search.trial import Rung
from pocketforge.search.trial_recipe import Made


@dataclass(frozen=True, slots=True)
class Measured:
    """What one trial's recipe was measured to be at one rung.

    Attributes:
        values: Objective → its value; without those that were not measured.
        violations: Budget in words → by how much of its limit it is not kept.
        reason: Why it failed; empty where it did not.
        log: Of the step that failed; empty where none did.
        seconds: That its steps took which ran now for it first.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    log: str = ""
    seconds: float = 0.0


class Evaluator(Protocol):
    """Measures recipes: `Builds`, or a fake of tests."""

    def measure(self, trials: Sequence[Made], rung: Rung) -> list[Measured]:
        """One for each, in their order. Only what stops the whole search is raised (a full disk, ^C)."""
        ...


def name_of(objective: Objective) -> str:
    """How trials call an objective."""
    return f"{objective.metric} on {objective.device}" if objective.device else objective.metric


@dataclass(frozen=True, slots=True)
class Builds:
    """The real one.

    Attributes:
        cache: Of the store.
        logs: A folder for the output of stages.
        objectives: What is measured.
        baselines: What some budgets are held against.
        jobs: Steps at a time.
        emit: Gets the news of steps.
    """

    cache: Path
    logs: Path
    objectives: tuple[Objective, ...]
    baselines: Baselines | None = None
    jobs: int = 1
    emit: events.Emit = events.ignore

    def measure(self, trials: Sequence[Made], rung: Rung) -> list[Measured]:
        """All steps of all trials in one walk: what two of them need is made once, by one fork server."""
        planned = [self._planned(made.recipe, rung) for made in trials]
        steps: dict[str, Step] = {}
        for each in planned:
            if not isinstance(each, str):
                steps |= {step.key: step for step in each.part if step.key not in steps}
        outcome = run_plan(Plan(tuple(steps.values()), "", "", ()), Store(self.cache), logs=self.logs, jobs=self.jobs,
                           emit=self.emit)  # fmt: skip
        counted: set[str] = set()
        found = []
        for each in planned:
            if isinstance(each, str):
                found.append(Measured(reason=each))
                continue
            found.append(self._read(each, outcome, counted, rung))
            counted |= {step.key for step in each.part}
        return found

    def _planned(self, recipe: Recipe, rung: Rung) -> _Planned | str:
        """A trial's steps; in words why it has none, which is its own failure and not the search's."""
        try:
            facts = gather(recipe, self.cache)
            recipe, _ = without_absent(recipe, facts.phones)
            plan = make_plan(recipe, facts)
        except (RecipeError, ModelError, StageFailed) as error:
            return error.message
        wanted = {key for lane in plan.lanes for key in wanted_keys(lane, recipe, self.objectives, rung)}
        for step in reversed(plan.steps):  # needs are laid out before what needs them
            if step.key in wanted:
                wanted.update(step.needs.values())
        plan = dataclasses.replace(plan, lanes=tuple(_only(lane, wanted) for lane in plan.lanes))
        return _Planned(recipe, facts, plan, tuple(step for step in plan.steps if step.key in wanted))

    def _read(self, planned: _Planned, outcome: Outcome, counted: set[str], rung: Rung) -> Measured:
        keys = {step.key for step in planned.part}
        own = Outcome(
            {key: entry for key, entry in outcome.entries.items() if key in keys},
            {key: record for key, record in outcome.records.items() if key in keys},
            {key: error for key, error in outcome.errors.items() if key in keys},
            {key: cause for key, cause in outcome.causes.items() if key in keys},
        )
        ran = [r for key, r in own.records.items() if r.status in ("run", "rejected", "failed") and key not in counted]
        seconds = round(sum(record.wall_s for record in ran), 3)
        if own.errors:
            error = next(iter(own.errors.values()))
            log = error.log if isinstance(error, StageFailed) else ""
            return Measured(reason=error.message, log=log, seconds=seconds)
        report = make_report(planned.recipe, planned.facts, planned.plan, own, wall_s=0.0, baselines=self.baselines)
        values = {name_of(each): value_of(planned.recipe, report.measurements, each) for each in self.objectives}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        return Measured(known, violations(report.gates), _wrong(report, known, values, rung), seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Planned:
    recipe: Recipe
    facts: Facts
    plan: Plan
    part: tuple[Step, ...]


def _only(lane: Lane, wanted: Collection[str]) -> Lane:
    """A lane without the steps on devices that are not run: a report would call it failed by them."""
    on = {}
    for device, steps in lane.on.items():
        left = {
            each.name: ""
            for each in dataclasses.fields(steps)
            if each.name != "via" and getattr(steps, each.name) not in wanted
        }
        kept = dataclasses.replace(steps, **left)
        if kept.keys:
            on[device] = kept
    return dataclasses.replace(lane, on=on)


def _wrong(report: Report, known: Mapping[str, float], wanted: Mapping[str, float], rung: Rung) -> str:
    """Why a trial that ran to its end is no file to ship; of one that is not trained yet, nothing is wrong."""
    if rung != "full":
        return ""
    for target in report.targets:
        if target.status != "built":
            return f"its file is {target.status}: {target.error or _failed_checks(target)}"
    missing = [name for name in wanted if name not in known]
    return f"not measured: {', '.join(missing)}" if missing else ""


def _failed_checks(target: TargetRecord) -> str:
    return (
        "; ".join(f"{c.name} {c.found}, wanted {c.wanted}" for c in target.checks if not c.passed) or "no check passed"
    )


def wanted_keys(lane: Lane, recipe: Recipe, objectives: Sequence[Objective], rung: Rung) -> list[str]:
    """The steps that give what objectives and budgets are on. What keeps time is for trials that came to the end."""
    keys = [lane.verify]
    asked: list[Objective | Budget] = [*objectives, *recipe.budgets]
    for device, on in lane.on.items():
        of = {place_of(each.metric) for each in asked if device in recipe.devices_of(each)}
        metrics = {each.metric for each in asked if device in recipe.devices_of(each)}
        if isinstance(on, Emulated):
            keys += [on.count] if "emulated" in of else []
            keys += [on.estimate] if metrics & {"estimated_cycles", "estimated_latency_ms"} else []
            keys += [on.verify] if "outputs" in of and rung == "full" else []
        elif of and rung == "full":
            keys += on.keys
    return keys


def value_of(recipe: Recipe, measurements: Sequence[Measurement], objective: Objective) -> float:
    """An objective's value of the recipe's only target; NaN where nothing measured it."""
    word = recipe.task_metric if objective.metric == THE_TASKS else objective.metric
    named = find_metric(word, recipe.judged)
    assert named is not None, "a recipe whose objective is on a metric that nothing takes is none"
    output = recipe.judged[named.output].name if named.output is not None else ""
    (device,) = recipe.devices_of(objective)
    for each in measurements:
        said = each.how.output if isinstance(each.how, HowCompared) else None
        if each.metric == named.name and each.device == device and said in (None, output):
            return each.value
    return math.nan


def with_one_device(recipe: Recipe, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Objectives on what one device gives, with that device's name: trials and pages say where."""
    return tuple(dataclasses.replace(each, device=recipe.devices_of(each)[0]) for each in objectives)
