"""Recipe → steps with keys (builder.py makes those). Pure: everything outside the recipe comes in as Facts."""

from __future__ import annotations

from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.compress import add_compress, add_gains, definition_libraries, model_source
from pocketforge.plan.judging import judging_libraries, judging_reads
from pocketforge.plan.kinds import add_steps
from pocketforge.plan.quantize import add_quantize
from pocketforge.plan.steps import TRUNK, Facts, Lane, LaneSource, Plan
from pocketforge.recipe import Recipe, Target
from pocketforge.registries import RUNTIMES
from pocketforge.specs.data import data_spec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.verify import VerifySpec


def make_plan(recipe: Recipe, facts: Facts) -> Plan:
    """Lay out every step of a build. Equal inputs give equal plans."""
    build = Steps(recipe, facts)
    folder = Path(recipe.folder)
    data_paths = {"data_root": folder}
    if recipe.data.labels:
        data_paths["labels"] = recipe.resolve(recipe.data.labels)
    sampling = data_spec(recipe.data, recipe.seed, recipe.task, recipe.judged, recipe.model.inputs)
    data = build.add("data", TRUNK, sampling, {}, reads=("data", "labels"), paths=data_paths)

    model_paths = {"data_root": folder}
    if recipe.model.weights:
        model_paths["weights"] = recipe.resolve(recipe.model.weights)
    model = model_source(recipe)
    also = definition_libraries(recipe.model.definition)
    changes = add_compress(build, recipe, model_paths, also)
    trunk = {"checkpoint": changes[-1].key} if changes else {}
    reference = build.add(
        "reference",
        TRUNK,
        ReferenceSpec(
            model=model,
            inputs=recipe.model.inputs,
            outputs=recipe.model.outputs,
            task=recipe.task,
            metric=recipe.task_metric,
            judged=recipe.judged,
            dropped=tuple(output.name for output in recipe.outputs if not output.keep),
        ),
        {"data": data, **trunk},
        reads=("definition", *(() if trunk else ("weights",)), *judging_reads(recipe)),
        paths=model_paths,
        also=(*also, *judging_libraries(recipe)),
    )
    gains = add_gains(build, recipe, model_paths, also, data, changes) if changes else ""
    source = LaneSource(model, model_paths, also, data, reference, trunk.get("checkpoint", ""))
    lanes = tuple(_add_lane(build, recipe, target, source) for target in recipe.targets)
    return Plan(build.steps(), data, reference, lanes, changes, gains)


def _add_lane(build: Steps, recipe: Recipe, target: Target, source: LaneSource) -> Lane:
    runtime = RUNTIMES[target.runtime]
    data = source.data
    trunk = {"data": data, "reference": source.reference}
    quantize = add_quantize(build, recipe, target, source)
    if quantize:
        trunk = {**trunk, "quantize": quantize}
    export_needs = {role: key for role, key in trunk.items() if role != "data"}
    export = build.add(
        "export",
        target.name,
        ExportSpec(
            runtime=target.runtime,
            scheme=target.quantize.scheme,
            layout=target.layout,
            model_layout=recipe.data.preprocess.layout if recipe.data.preprocess else "NCHW",
            io=target.io,
            opset=target.opset,
        ),
        export_needs,
        also=(*runtime.export_libraries, *target.quantize.info.libraries),
        preload=runtime.preload,
    )
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
            judged=recipe.judged,
            legacy=build.facts.tflite_runtime if legacy else "",
        ),
        {**trunk, "export": export},
        reads=judging_reads(recipe),
        paths={"data_root": Path(recipe.folder)},
        also=(*runtime.run_libraries, *target.quantize.info.libraries, *judging_libraries(recipe)),
    )
    needs = {**trunk, "export": export, "verify": verify}
    on = {device.name: add_steps(device.via)(build, target, device, needs) for device in recipe.devices}
    return Lane(target, quantize, export, verify, on)
