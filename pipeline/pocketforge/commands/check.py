"""What `pocketforge check` does: the trunk of a build without its training, so every mistake of a user's shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge import events
from pocketforge.facts.gather import gather
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import Reference
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe
from pocketforge.results.checked import Checked
from pocketforge.run.part import run_part


def check(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore) -> Checked:
    """Run the data and reference stages; returns what they found. Raises the first error they met."""
    untrained = dataclasses.replace(recipe, compress=())
    facts = gather(untrained, cache)
    plan = make_plan(untrained, facts)
    outcome = run_part(plan, (plan.data, plan.reference), cache, "check", emit)
    data, model = outcome.result(plan.data, Sampled), outcome.result(plan.reference, Reference)
    assert data is not None and model is not None, "run_part raises where a step has no result"
    return Checked(data, model, (*facts.data_notes, *data.notes), tuple(target.name for target in recipe.targets))
