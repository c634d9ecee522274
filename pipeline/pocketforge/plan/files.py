"""The steps of model files made elsewhere: taken in and judged as they are. Pure."""

from __future__ import annotations

from pathlib import Path, PurePath

from pocketforge.plan.builder import Steps
from pocketforge.plan.judging import judging_libraries, judging_reads
from pocketforge.plan.kinds import add_steps
from pocketforge.plan.roles import file_role
from pocketforge.plan.steps import TRUNK, Lane
from pocketforge.recipe import Recipe, Target
from pocketforge.registries import RUNTIMES, nearest_formats
from pocketforge.specs.adopt import AdoptSpec
from pocketforge.specs.answers import AnswersSpec
from pocketforge.specs.verify_file import VerifyFileSpec


def add_answers(build: Steps, recipe: Recipe, data: str) -> str:
    """The key of the step that asks the recipe's model, where that is a model file: what others are held against."""
    file = recipe.model.definition
    runtime, known = nearest_formats()[PurePath(file).suffix.lower()]
    return build.add(
        "answers",
        TRUNK,
        AnswersSpec(runtime, PurePath(file).name, recipe.task, recipe.task_metric, recipe.judged),
        {"data": data},
        reads=("definition", *judging_reads(recipe)),
        paths={"file": recipe.resolve(file), "data_root": Path(recipe.folder)},
        also=(
            *RUNTIMES[runtime].run_libraries,
            *([known.package] if known.package else []),
            *judging_libraries(recipe),
        ),
    )


def add_file(build: Steps, recipe: Recipe, target: Target, data: str, reference: str) -> Lane:
    """reference: key of the step whose answers the file is held against; empty for none."""
    runtime, name = RUNTIMES[target.runtime], PurePath(target.file).name
    package = next(each.package for each in runtime.formats if each.suffix == target.suffix)
    needs = {"data": data, **({"reference": reference} if reference else {})}
    adopt = build.add(
        "adopt",
        target.name,
        AdoptSpec(target.runtime, name, target.layout),
        needs,
        reads=(file_role(target.file),),
        paths={"file": recipe.resolve(target.file)},
        also=(*runtime.run_libraries, *([package] if package else [])),
    )
    legacy = "tflite_runtime" in runtime.target_keys and target.verify.tflite_runtime != "skip"
    verify = build.add(
        "verify_file",
        target.name,
        VerifyFileSpec(
            target.runtime,
            recipe.task,
            target.verify,
            build.facts.kernels,
            recipe.judged,
            build.facts.tflite_runtime if legacy else "",
        ),
        {**needs, "export": adopt},
        reads=judging_reads(recipe),
        paths={"data_root": Path(recipe.folder)},
        also=(*runtime.run_libraries, *judging_libraries(recipe)),
    )
    needs |= {"export": adopt, "verify": verify}
    on = {device.name: add_steps(build, target, device, needs) for device in recipe.devices}
    return Lane(target, "", adopt, verify, on, data, reference)
