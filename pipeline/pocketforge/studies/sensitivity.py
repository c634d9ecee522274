"""A recipe's sensitivity study, run as a build would run it: the same steps with the same keys, so it is made once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge import events
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.outcomes import files
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Compress, Finetune, PruneChannels
from pocketforge.run.part import run_part
from pocketforge.studies.asked import as_asked


def sensitivity_recipe(recipe: Recipe) -> Recipe:
    """The recipe up to its first prune_channels, with `ratio = "auto"` there; without one, the model as it is given.

    What comes after it is never run, and stays: by whether anything trains, losses of outputs are measured, as in a
    build, whose step this is then. Importance, round_to, protect and max_ratio are
    those of the recipe's entry, else the defaults.
    """
    if recipe.model.definition.endswith(".pt2"):
        raise RecipeError("a .pt2 is a traced graph whose channels cannot be pruned", "give the .py definition")
    before: list[Compress] = []
    for index, entry in enumerate(recipe.compress):
        if isinstance(entry, PruneChannels):
            auto = dataclasses.replace(
                entry, ratio="auto", ratios={}, goal=None, scope="local", steps=1, finetune=None, head_ratio=0.0
            )
            return as_asked(recipe, "sensitivity", compress=(*before, auto, *recipe.compress[index + 1 :]))
        before.append(entry)
    trained = (entry for entry in recipe.compress if isinstance(entry, Finetune))
    return as_asked(recipe, "sensitivity", compress=(PruneChannels(ratio="auto"), *trained))


def study(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore) -> SensitivityOutcome:
    """What the step finds, from the store or measured now. Raises the first error that a step met."""
    asked = sensitivity_recipe(recipe)
    plan = make_plan(asked, gather(asked, cache))
    key = next(step.key for step in plan.steps if step.stage == "sensitivity")
    outcome = run_part(plan, (key,), cache, "study", emit)
    return files.read(outcome.entries[key].files, SensitivityOutcome)
