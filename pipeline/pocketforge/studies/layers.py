"""A recipe's study of layers in int8, run as a build would: the same step with the same key, so it is made once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge import events
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.outcomes import files
from pocketforge.outcomes.layers import LayerStudy
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe, Target, suggest
from pocketforge.recipe.quantize import Quantize
from pocketforge.run.part import run_part
from pocketforge.studies.asked import as_asked


def study(recipe: Recipe, target: str, cache: Path, emit: events.Emit = events.ignore) -> LayerStudy:
    """What each layer costs, from the store or measured now. target: a name; empty: the first static int8 one,
    else static_int8 as it is by default. Raises RecipeError for an unknown target and for a recipe of several outputs
    or with states, and the first error that a step met.
    """
    asked = as_asked(recipe, "layers", targets=(_mixed(_chosen(recipe, target)),), budgets=())
    plan = make_plan(asked, gather(asked, cache))
    (key,) = (step.key for step in plan.steps if step.stage == "layers")
    outcome = run_part(plan, (key,), cache, "study", emit)
    return files.read(outcome.entries[key].files, LayerStudy)


def _chosen(recipe: Recipe, name: str) -> Target:
    known = {target.name: target for target in recipe.targets}
    if name and name not in known:
        raise RecipeError(f"the recipe has no target {name!r}{suggest(name, known)}")
    if name:
        return known[name]
    static = [target for target in recipe.targets if target.quantize.is_static]
    return static[0] if static else Target("layers", recipe.targets[0].runtime)


def _mixed(target: Target) -> Target:
    """The target with scheme mixed, on its own backend and calibration."""
    quantize = target.quantize
    if not quantize.is_static:
        return dataclasses.replace(target, quantize=Quantize("mixed"))
    settings = {k: getattr(quantize, k) for k in ("per_channel", "calibration", "backend", "percentile", "weight_bits")}
    return dataclasses.replace(target, quantize=Quantize("mixed", **settings))
