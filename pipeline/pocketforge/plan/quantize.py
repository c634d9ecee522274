"""A lane's quantization → steps. Pure, as `plan`. Targets that quantize alike share their steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.compress import sampling_of, training_reads
from pocketforge.plan.steps import LaneSource
from pocketforge.recipe import Recipe, Target
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.training import gpus_in_words
from pocketforge.specs.layers import LayersSpec
from pocketforge.specs.qat import QatSpec
from pocketforge.specs.quantize import QuantizeSpec


def add_quantize(build: Steps, recipe: Recipe, target: Target, source: LaneSource) -> str:
    """Lay out the steps that quantize a target; returns the key of the last, empty where there is nothing to do.

    Some schemes have none (fp16: each runtime's own converter rounds the weights): SchemeInfo.stage says it.
    """
    quantize = target.quantize
    if not quantize.info.stage:
        return ""
    settled = quantize.settled()
    needs = {"data": source.data, "reference": source.reference}
    sampling = sampling_of(recipe)
    paths = {"data_root": Path(recipe.folder), **_labels(recipe)}
    if quantize.info.stage == "qat":
        checkpoint = {"checkpoint": source.checkpoint} if source.checkpoint else {}
        reads, more, also = training_reads(recipe, quantize.settings)
        return build.add(
            "qat",
            target.name,
            QatSpec(source.model, sampling, settled, gpus_in_words(build.facts.gpus, quantize.settings.processes)),
            {**needs, **checkpoint},
            reads=("definition", "data", "labels", "preprocess", *(() if checkpoint else ("weights",)), *reads),
            paths={**source.paths, **paths, **more},
            also=(*source.also, *also, *quantize.info.libraries),
        )
    if quantize.info.studies_layers:
        needs["layers"] = add_layer_study(build, recipe, target, source)
    elif quantize.finetune is None:
        return build.add("quantize", target.name, QuantizeSpec(settled), needs, also=quantize.info.libraries)
    reads, more, also = training_reads(recipe, quantize.finetune) if quantize.finetune else ((), {}, ())
    return build.add(
        "quantize",
        target.name,
        QuantizeSpec(settled, sampling),
        needs,
        reads=("data", "labels", "preprocess", *reads),
        paths={**paths, **more},
        also=(*also, *quantize.info.libraries),
    )


def add_layer_study(build: Steps, recipe: Recipe, target: Target, source: LaneSource) -> str:
    """The step that measures what quantizing each layer costs."""
    default = Quantize()
    studied = dataclasses.replace(  # what is chosen from it is no part of it
        target.quantize.settled(),
        max_accuracy_drop=default.max_accuracy_drop,
        minimize=default.minimize,
        overrides=(),
    )
    return build.add(
        "layers",
        target.name,
        LayersSpec(studied, sampling_of(recipe)),
        {"data": source.data, "reference": source.reference},
        reads=("data", "labels", "preprocess"),
        paths={"data_root": Path(recipe.folder), **_labels(recipe)},
    )


def _labels(recipe: Recipe) -> dict[str, Path]:
    return {"labels": recipe.resolve(recipe.data.labels)} if recipe.data.labels else {}
