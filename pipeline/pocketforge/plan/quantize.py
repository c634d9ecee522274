"""A lane's quantization → steps. Pure, as `plan`. Targets that quantize alike share their steps."""

from __future__ import annotations

from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.compress import training_reads
from pocketforge.plan.steps import Source
from pocketforge.recipe import Recipe, Target, data_spec


def add_quantize(build: Steps, recipe: Recipe, target: Target, source: Source) -> str:
    """Lay out the steps that quantize a target; returns the key of the last, empty where there is nothing to do.

    Some schemes have none (fp16: each runtime's own converter rounds the weights): SchemeInfo.stage says it.
    """
    quantize = target.quantize
    if not quantize.info.stage:
        return ""
    spec = quantize.spec()
    needs = {"data": source.data, "reference": source.reference}
    sampling = {"data": data_spec(recipe.data, recipe.seed, recipe.task), "seed": recipe.seed, "task": recipe.task}
    paths = {"data_root": Path(recipe.folder), **_labels(recipe)}
    if quantize.info.stage == "qat":
        checkpoint = {"checkpoint": source.checkpoint} if source.checkpoint else {}
        reads, more, also = training_reads(recipe, quantize.settings)
        return build.add(
            "qat",
            target.name,
            {**source.model, **sampling, "quantize": spec},
            {**needs, **checkpoint},
            reads=("definition", "data", "labels", *(() if checkpoint else ("weights",)), *reads),
            paths={**source.paths, **paths, **more},
            also=(*source.also, *also),
        )
    if quantize.info.studies_layers:
        needs["layers"] = add_layer_study(build, recipe, target, source)
    elif quantize.finetune is None:
        return build.add("quantize", target.name, spec, needs, also=quantize.info.libraries)
    reads, more, also = training_reads(recipe, quantize.finetune) if quantize.finetune else ((), {}, ())
    return build.add(
        "quantize",
        target.name,
        {**spec, **sampling},
        needs,
        reads=("data", "labels", *reads),
        paths={**paths, **more},
        also=(*also, *quantize.info.libraries),
    )


def add_layer_study(build: Steps, recipe: Recipe, target: Target, source: Source) -> str:
    """The step that measures what quantizing each layer costs."""
    spec = target.quantize.spec()
    for key in ("max_accuracy_drop", "minimize", "overrides"):  # what is chosen from it is no part of it
        spec.pop(key, None)
    sampling = {"data": data_spec(recipe.data, recipe.seed, recipe.task), "seed": recipe.seed, "task": recipe.task}
    return build.add(
        "layers",
        target.name,
        {**spec, **sampling},
        {"data": source.data, "reference": source.reference},
        reads=("data", "labels"),
        paths={"data_root": Path(recipe.folder), **_labels(recipe)},
    )


def _labels(recipe: Recipe) -> dict[str, Path]:
    return {"labels": recipe.resolve(recipe.data.labels)} if recipe.data.labels else {}
