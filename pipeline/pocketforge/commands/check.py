"""What `pocketforge check` does: the trunk of a build without its training, so every mistake of a user's shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge import events
from pocketforge.facts.gather import gather
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import Reference
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe
from pocketforge.run.part import run_part


def check(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore) -> dict[str, object]:
    """Run the data and reference stages; returns what they found. Raises the first error they met."""
    untrained = dataclasses.replace(recipe, compress=())
    facts = gather(untrained, cache)
    plan = make_plan(untrained, facts)
    outcome = run_part(plan, (plan.data, plan.reference), cache, "check", emit)
    data, model = outcome.result(plan.data, Sampled), outcome.result(plan.reference, Reference)
    assert data is not None and model is not None, "run_part raises where a step has no result"
    return {
        "samples": files.to_json(data.counts),
        "labels": len(data.labels),
        "data": [*facts.data_notes, *data.notes],
        "inputs": files.to_json(model.inputs),
        "outputs": files.to_json(model.outputs),
        "parameters": model.parameters,
        "macs": model.macs,
        **({"weights": files.to_json(model.weights)} if model.weights else {}),
        "accuracy": {name: round(value, 6) for name, value in model.accuracy.items()},
        "targets": [target.name for target in recipe.targets],
    }
