"""Recipe → steps with keys (builder.py makes those). Pure: everything outside the recipe comes in as Facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.compress import add_compress, add_gains, definition_libraries, model_source
from pocketforge.plan.files import add_answers, add_file
from pocketforge.plan.judging import judging_libraries, judging_reads
from pocketforge.plan.kinds import add_steps
from pocketforge.plan.package import Packed, add_package, pixel_data, resized_by_mediapipe, takes_pictures
from pocketforge.plan.quantize import add_quantize
from pocketforge.plan.steps import TRUNK, Facts, Lane, LaneSource, Plan
from pocketforge.recipe import Data, Recipe, Target
from pocketforge.recipe.sized_preprocess import preprocess_at
from pocketforge.recipe.sizes import suffix
from pocketforge.registries import RUNTIMES
from pocketforge.specs.data import data_spec
from pocketforge.specs.export import AboutSpec, ExportSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.verify import VerifySpec


def make_plan(recipe: Recipe, facts: Facts) -> Plan:
    """Lay out every step of a build. Equal inputs give equal plans."""
    build = Steps(recipe, facts)
    data = _add_data(build, recipe)
    if not recipe.model.is_pytorch:
        answers = add_answers(build, recipe, data) if recipe.model.definition else ""
        files = tuple(add_file(build, recipe, target, data, answers) for target in recipe.targets)
        return Plan(build.steps(), data, answers, files)
    model = model_source(recipe)
    paths = {"data_root": Path(recipe.folder)}
    if recipe.model.weights:
        paths["weights"] = recipe.resolve(recipe.model.weights)
    also = definition_libraries(recipe.model.definition)
    changes = add_compress(build, recipe, paths, also)
    source = LaneSource(model, paths, also, data, "", changes[-1].key if changes else "")
    source = dataclasses.replace(source, reference=_add_reference(build, recipe, source))
    gains = add_gains(build, recipe, paths, also, data, changes) if changes else ""
    lanes = tuple(_add_target(build, recipe, target, source) for target in recipe.targets)
    return Plan(build.steps(), data, source.reference, lanes, changes, gains)


def _add_data(build: Steps, recipe: Recipe, lane: str = TRUNK, data: Data | None = None) -> str:
    """data: the recipe's with other preprocessing; None: as it is."""
    paths = {"data_root": Path(recipe.folder)}
    if recipe.data.labels:
        paths["labels"] = recipe.resolve(recipe.data.labels)
    data = data or recipe.data
    if not recipe.model.is_pytorch:  # nothing is calibrated: one sample is set apart, for what wants to look at some
        data = dataclasses.replace(data, calibration_samples=1)
    sampling = data_spec(data, recipe.seed, recipe.task, recipe.judged, recipe.model.inputs)
    return build.add("data", lane, sampling, {}, reads=("data", "labels", "preprocess"), paths=paths)


def _add_reference(build: Steps, recipe: Recipe, source: LaneSource, lane: str = TRUNK) -> str:
    trunk, model = {"checkpoint": source.checkpoint} if source.checkpoint else {}, recipe.model
    return build.add(
        "reference",
        lane,
        ReferenceSpec(
            model=source.model,
            # Of a recipe of buckets alone no graph is of several sizes, and a model need not have one.
            inputs=model.fixed_inputs if all(t.bucket for t in recipe.targets) else model.eval_inputs,
            outputs=model.outputs,
            task=recipe.task,
            metric=recipe.task_metric,
            judged=recipe.judged,
            dropped=tuple(output.name for output in recipe.outputs if not output.keep),
        ),
        {"data": source.data, **trunk},
        reads=("definition", *(() if trunk else ("weights",)), *judging_reads(recipe)),
        paths=source.paths,
        also=(*source.also, *judging_libraries(recipe)),
    )


def _add_target(build: Steps, recipe: Recipe, target: Target, source: LaneSource) -> Lane:
    """A lane from the trunk; of a bucket from samples and model at its size, which buckets of one size share."""
    if target.file:
        return add_file(build, recipe, target, source.data, source.reference)
    if not target.bucket:
        return _add_lane(build, recipe, target, source)
    sized = recipe_at(recipe, target.bucket)
    lane = f"{TRUNK}-{suffix(target.bucket)}"  # as its targets are called
    source = dataclasses.replace(source, data=_add_data(build, sized, lane))
    source = dataclasses.replace(source, reference=_add_reference(build, sized, source, lane))
    return _add_lane(build, sized, target, source)


def recipe_at(recipe: Recipe, size: Sequence[int]) -> Recipe:
    """The recipe with inputs of fixed shapes, a length for each name of a size that varies, and samples made for it."""
    model = recipe.model
    sizes = model.sizes_of(size)
    inputs = tuple(each.at(sizes).fixed for each in model.inputs)
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(model, inputs=inputs, eval_size=()),
        data=dataclasses.replace(recipe.data, preprocess=preprocess_at(recipe.data.preprocess, model, size)),
        targets=tuple(target for target in recipe.targets if target.bucket == tuple(size)),
        budgets=(),
    )


def _add_lane(build: Steps, recipe: Recipe, target: Target, source: LaneSource) -> Lane:
    runtime = RUNTIMES[target.runtime]
    quantize = add_quantize(build, recipe, target, source)
    form = Packed(source.data, source.reference, quantize, recipe.judged)
    for_tasks = "mediapipe" in target.consumers
    # Sound has no layout that a task could ask for.
    for_pictures = for_tasks and takes_pictures(recipe, target)
    raw = _add_data(build, recipe, target.name, pixel_data(recipe, target)) if target.package.inside else ""
    if target.package.packs:
        form = add_package(build, recipe, target, form, raw or source.data)
    trunk = {"data": form.data, "reference": form.reference}
    if quantize:
        trunk = {**trunk, "quantize": form.quantize}
    # What a file says of itself has the labels, and what is done to samples.
    export_needs = {role: key for role, key in trunk.items() if role != "data" or target.has_metadata}
    export = build.add(
        "export",
        target.name,
        ExportSpec(
            runtime=target.runtime,
            scheme=target.quantize.scheme,
            layout=form.layout or (target.layout if for_pictures or not for_tasks else "NCHW"),
            # What is put before a graph moves the channels itself.
            model_layout=form.layout or recipe.data.layout,
            io=target.io,
            opset=target.opset,
            about=(
                AboutSpec(target.name, form.judged, target.package.calibration, tasks=for_tasks)
                if target.has_metadata
                else None
            ),
            int8_weights=target.has_int8_weights,
        ),
        export_needs,
        also=(*runtime.export_libraries, *target.quantize.info.libraries),
        preload=runtime.preload,
    )
    pixels = {}
    if for_pictures:
        pixels = {"pixels": raw or _add_data(build, recipe, target.name, pixel_data(recipe, target))}
        if resized := resized_by_mediapipe(recipe, target):
            pixels["resized"] = _add_data(build, recipe, target.name, resized)
    legacy = "tflite_runtime" in runtime.target_keys and target.verify.tflite_runtime != "skip"
    verify = build.add(
        "verify",
        target.name,
        VerifySpec(
            runtime=target.runtime,
            scheme=target.quantize.scheme,
            trained=target.quantize.finetune is not None,
            task=recipe.task,
            limits=target.verify,
            kernels=build.facts.kernels,
            judged=form.judged,
            legacy=build.facts.tflite_runtime if legacy else "",
            consumers={name: build.facts.consumers.get(name, "none") for name in target.consumers},
            calibration=target.package.calibration if for_tasks else None,
            int8_weights=target.has_int8_weights,
        ),
        {**trunk, **pixels, "export": export},
        reads=judging_reads(recipe),
        paths={"data_root": Path(recipe.folder)},
        also=(*runtime.run_libraries, *target.quantize.info.libraries, *judging_libraries(recipe)),
    )
    needs = {**trunk, "export": export, "verify": verify}
    on = {device.name: add_steps(build, target, device, needs) for device in recipe.devices}
    return Lane(
        target,
        form.quantize,
        export,
        verify,
        on,
        form.data,
        form.reference,
        prepared=source.data if target.package.packs else "",
        traced=source.reference if target.package.packs else "",
    )
