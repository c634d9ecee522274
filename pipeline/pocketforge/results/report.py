"""What the steps wrote, gathered into one report, and judged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import Reference
from pocketforge.plan.steps import Facts, Plan
from pocketforge.recipe import Recipe
from pocketforge.records import Empty, GateResult, Measurement, Report, StepRecord, TargetRecord, WhyWrong
from pocketforge.results.agreement import compare_files
from pocketforge.results.baselines import Baselines
from pocketforge.results.devices import results_of
from pocketforge.results.gate import judge
from pocketforge.results.measurements import measurements_of
from pocketforge.results.shares import shares_warnings
from pocketforge.results.targets import target_record
from pocketforge.results.trunk import compression_of, trunk_warnings
from pocketforge.results.unjudged import unjudged_files
from pocketforge.results.worse import worse_than_float
from pocketforge.run.walk import Outcome

Verdict = Literal["PASS", "FAIL", "ERROR"]


def make_report(
    recipe: Recipe,
    facts: Facts,
    plan: Plan,
    outcome: Outcome,
    *,
    wall_s: float,
    why: Mapping[str, WhyWrong] | None = None,
    baselines: Baselines | None = None,
) -> Report:
    """Gather what the steps wrote into one report, and judge it.

    why: of wrong targets, where their numbers break. baselines: what some budgets are held against.
    """
    measurements: list[Measurement] = []
    targets: list[TargetRecord] = []
    reference = outcome.result(plan.reference, Reference)
    for lane in plan.lanes:
        on_devices = results_of(lane, outcome, facts)
        record = target_record(lane, outcome, on_devices, (why or {}).get(lane.target.name))
        targets.append(record)
        own = outcome.result(lane.reference, Reference) if lane.reference else None
        measurements += measurements_of(recipe, lane, record, own, outcome, on_devices)
    gates = judge(recipe, measurements, baselines=baselines)
    compression = compression_of(plan, outcome)
    sampled = outcome.result(plan.data, Sampled)
    return Report(
        recipe=recipe.name,
        recipe_sha256=recipe_digest(recipe),
        verdict=_verdict(outcome, gates, targets),
        targets=tuple(targets),
        steps=tuple(_step_record(s.key, s.stage, s.lane, outcome) for s in plan.steps),
        measurements=tuple(measurements),
        gates=gates,
        reference=reference or Empty(),
        compression=compression or Empty(),
        agreement=tuple(compare_files(plan, outcome)),
        environment={**facts.versions, "host": facts.host},
        warnings=(
            *(f"{target.name}: {warning}" for target in targets for warning in target.warnings),
            *worse_than_float(recipe, targets, measurements),
            *unjudged_files(recipe, targets),
            *(trunk_warnings(compression) if compression else ()),
            *(shares_warnings(recipe, reference) if reference else ()),
        ),
        data=(*facts.data_notes, *(sampled.notes if sampled else ())),
        wall_s=round(wall_s, 3),
    )


def _verdict(outcome: Outcome, gates: Sequence[GateResult], targets: Sequence[TargetRecord]) -> Verdict:
    if outcome.errors:
        return "ERROR"
    wrong = any(gate.blocks for gate in gates) or any(target.status != "built" for target in targets)
    return "FAIL" if wrong else "PASS"


def recipe_digest(recipe: Recipe) -> str:
    """SHA-256 of what the recipe says (not of its comments, nor of where it lies)."""
    content = dataclasses.asdict(recipe)
    del content["folder"], content["fit"]  # a search says nothing of what one build is
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _step_record(key: str, stage: str, lane: str, outcome: Outcome) -> StepRecord:
    return outcome.records.get(key) or StepRecord(stage, lane, key, "skipped", message="the build stopped before it")
