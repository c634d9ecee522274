"""A plan with the step that finds where a target's numbers break. Pure, as `plan`."""

from __future__ import annotations

import dataclasses

from pocketforge.errors import RecipeError
from pocketforge.plan.builder import Steps
from pocketforge.plan.compress import model_source
from pocketforge.plan.package import packed_spec
from pocketforge.plan.steps import Facts, Lane, Plan
from pocketforge.recipe import Recipe, suggest
from pocketforge.recipe.packed import judged_as_packed
from pocketforge.registries import RUNTIMES
from pocketforge.specs.why import WhySpec

SAMPLES = 100


def add_why(build: Steps, plan: Plan, lane: Lane, samples: int = SAMPLES) -> str:
    """Lay out the step for one lane of `plan`; returns its key.

    It reads what the lane's own steps read, so it has whatever the model went through. samples: as WhySpec has it.
    """
    reference, export, target = plan.step(lane.traced or lane.reference), plan.step(lane.export), lane.target
    prepared = {"prepared": lane.prepared} if lane.prepared else {}
    runtime = RUNTIMES[target.runtime]
    return build.add(
        "why",
        target.name,
        WhySpec(
            target=target.name,
            runtime=target.runtime,
            scheme=target.quantize.scheme,
            trained=target.quantize.finetune is not None,
            task=build.recipe.task,
            limits=target.verify,
            model=model_source(build.recipe),
            quantize=target.quantize if lane.quantize else None,
            samples=samples,
            judged=judged_as_packed(target.package, build.recipe.judged),
            package=packed_spec(build.recipe, target),
            int8_weights=target.has_int8_weights,
        ),
        {
            **reference.needs,
            **export.needs,
            **prepared,
            "data": lane.data,
            "reference": lane.reference,
            "export": lane.export,
        },
        reads=tuple(reference.files),
        paths=reference.paths,
        also=(*runtime.export_libraries, *runtime.run_libraries),
        preload=runtime.preload,
    )


def with_why(
    plan: Plan, recipe: Recipe, facts: Facts, targets: tuple[str, ...], samples: int = SAMPLES
) -> tuple[Plan, dict[str, str]]:
    """The plan with a step for each of `targets`, and target → its key. Raises RecipeError for an unknown target."""
    lanes = {lane.target.name: lane for lane in plan.lanes}
    build = Steps(recipe, facts)
    keys = {}
    for name in targets:
        if name not in lanes:
            raise RecipeError(
                f"the recipe has no target {name!r}{suggest(name, list(lanes))}", f"targets: {', '.join(lanes)}"
            )
        if lanes[name].target.file:
            raise RecipeError(
                f"target {name!r} is a file made elsewhere: no form of the model is known between PyTorch and the file",
                "its report says how far each output is from the reference's",
            )
        keys[name] = add_why(build, plan, lanes[name], samples)
    return dataclasses.replace(plan, steps=(*plan.steps, *build.steps())), keys
