"""A plan with the steps that say what quantizers will make of the model. Pure, as `plan`."""

from __future__ import annotations

import dataclasses

from pocketforge.plan.builder import Steps
from pocketforge.plan.steps import Facts, Plan
from pocketforge.recipe import Recipe
from pocketforge.specs.annotate import AnnotateSpec


def with_annotations(plan: Plan, recipe: Recipe, facts: Facts) -> tuple[Plan, dict[str, str]]:
    """The plan with a step for each target that computes in integers, and target → its key. Targets that quantize
    alike share theirs."""
    build = Steps(recipe, facts)
    keys = {
        lane.target.name: build.add(
            "annotate",
            lane.target.name,
            AnnotateSpec(lane.target.quantize.settled()),
            {"data": plan.data, "reference": plan.reference},
            also=lane.target.quantize.info.libraries,
        )
        for lane in plan.lanes
        if lane.target.quantize.is_int8
    }
    return dataclasses.replace(plan, steps=(*plan.steps, *build.steps())), keys
