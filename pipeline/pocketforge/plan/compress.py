"""The trunk's compression: `[[compress]]` → steps, each from the checkpoint of the one before. Pure, as `plan`.

An entry may become several steps: channels pruned in parts with fine-tuning between, or a sensitivity study before
`ratio = "auto"`. Gradual unstructured pruning becomes part of the fine-tuning that follows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.devices import calibration_paths
from pocketforge.plan.judging import judging_libraries, judging_reads
from pocketforge.plan.roles import calibration_role, loss_role, profile_role, teacher_role
from pocketforge.plan.steps import TRUNK, Change
from pocketforge.recipe import SHARED_DEFINITIONS, Recipe
from pocketforge.recipe.compress import DropLayers, Finetune, Goal, PruneChannels, PruneUnstructured
from pocketforge.recipe.device import EmulatedDevice
from pocketforge.recipe.output import Output
from pocketforge.recipe.output_loss import UNTRAINED, OutputLoss
from pocketforge.recipe.training import gpus_in_words
from pocketforge.recipe.user_words import user_code
from pocketforge.specs.count import EmulatedPlace
from pocketforge.specs.data import data_spec
from pocketforge.specs.finetune import FinetuneSpec
from pocketforge.specs.gains import GainsSpec
from pocketforge.specs.prune import PruneSpec, Pruning, Trials
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.sensitivity import SensitivitySpec, studied
from pocketforge.specs.trained import ModelSource


def add_compress(build: Steps, recipe: Recipe, paths: Mapping[str, Path], also: tuple[str, ...]) -> tuple[Change, ...]:
    """Lay out the steps of every entry, in order. paths: of the user's own files. also: libraries of the model."""
    trunk = _Trunk(build, recipe, paths, also)
    gradual: PruneUnstructured | None = None
    for index, entry in enumerate(recipe.compress):
        if isinstance(entry, PruneUnstructured) and entry.schedule == "cubic":
            gradual = entry  # the recipe has made sure that a finetune follows
        elif isinstance(entry, Finetune):
            label = "finetune" + (" + distill" if entry.distill else "")
            trunk.finetune(index, entry, f"{'gradual prune_unstructured + ' if gradual else ''}{label}", gradual)
            gradual = None
        elif isinstance(entry, PruneChannels):
            trunk.prune_channels(index, entry)
        else:
            trunk.prune(index, entry, entry.type)
    return tuple(trunk.changes)


def add_gains(
    build: Steps,
    recipe: Recipe,
    paths: Mapping[str, Path],
    also: tuple[str, ...],
    data: str,
    changes: tuple[Change, ...],
) -> str:
    """The step that measures what each change bought: sizes, and latencies side by side in one sitting."""
    runtimes = tuple(dict.fromkeys(target.runtime for target in recipe.targets))
    libraries = [name for runtime in runtimes for name in build.runtime_libraries(runtime)]
    return build.add(
        "gains",
        TRUNK,
        GainsSpec(
            model=model_source(recipe),
            model_inputs=recipe.model.fixed_inputs,
            task=recipe.task,
            metric=recipe.task_metric,
            outputs=_measured(recipe, recipe.outputs) or recipe.judged,
            output_names=recipe.model.outputs,
            labels=tuple(change.label for change in changes),
            runtimes=runtimes,
            model_layout=recipe.data.layout,
            host=build.facts.host,
        ),
        {"data": data, **{f"state_{n}": change.key for n, change in enumerate(changes, 1)}},
        reads=("definition", "weights", *judging_reads(recipe), *loss_reads(recipe)),
        paths=paths,
        also=(*also, *libraries, *judging_libraries(recipe)),
        exclusive=True,
    )


def model_source(recipe: Recipe) -> ModelSource:
    """Where the recipe's model comes from, as stages are told it."""
    model = recipe.model
    names = tuple(each.name for each in model.inputs)
    arguments = tuple(each.argument for each in model.inputs)
    return ModelSource(
        model.definition,
        model.args,
        recipe.seed,
        model.weights_key,
        input_names=names if any(names) else (),
        arguments=arguments if any(arguments) else (),
    )


def sampling_of(recipe: Recipe) -> Sampling:
    """The recipe's samples, as stages that read them by themselves are told of them."""
    data = data_spec(recipe.data, recipe.seed, recipe.task, recipe.judged)
    by_roles = recipe.task == "outputs"
    return Sampling(
        data,
        recipe.seed,
        recipe.task,
        outputs=recipe.outputs if by_roles else (),
        output_names=recipe.model.outputs if by_roles else (),
    )


def _measured(recipe: Recipe, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    """Outputs as steps take them that only report losses: without any where nothing of the recipe goes by them (a
    text too long for CTC may well be judged)."""
    if any(recipe.going_by_losses()):
        return outputs
    return tuple(dataclasses.replace(output, loss=OutputLoss(UNTRAINED)) for output in outputs)


def loss_reads(recipe: Recipe) -> tuple[str, ...]:
    """Roles of the files with the outputs' own losses."""
    losses = [output.loss.type for output in recipe.judged if user_code(output.loss.type)]
    return tuple(dict.fromkeys(map(loss_role, losses)))


@dataclass(frozen=True, slots=True)
class _Measuring:
    """What a step depends on because a goal is on exported files: roles and paths of files, libraries."""

    trials: Trials | None = None
    reads: tuple[str, ...] = ()
    paths: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    also: tuple[str, ...] = ()


class _Trunk:
    def __init__(self, build: Steps, recipe: Recipe, paths: Mapping[str, Path], also: tuple[str, ...]) -> None:
        self.build, self.recipe, self.also = build, recipe, also
        self.paths = dict(paths)
        self.model, self.model_inputs, self.sampling = (
            model_source(recipe),
            recipe.model.fixed_inputs,
            sampling_of(recipe),
        )
        self.changes: list[Change] = []

    @property
    def needs(self) -> dict[str, str]:
        return {"checkpoint": self.changes[-1].key} if self.changes else {}

    @property
    def reads(self) -> tuple[str, ...]:
        weights = () if self.changes else ("weights",)
        return ("definition", "data", "labels", "preprocess", *weights, *loss_reads(self.recipe))

    def prune(self, index: int, entry: Pruning, label: str, part: tuple[int, int] = (1, 1), study: str = "") -> None:
        goal = entry.goal if isinstance(entry, PruneChannels | DropLayers) else None
        measuring = self._measuring(goal) if goal is not None else _Measuring()
        if isinstance(entry, PruneChannels):
            # What happens between the parts is a step of its own.
            entry = dataclasses.replace(entry, finetune=None)
        key = self.build.add(
            "prune",
            TRUNK,
            PruneSpec(self.model, self.model_inputs, self.sampling, entry, *part, measuring.trials),
            {**self.needs, **({"sensitivity": study} if study else {})},
            reads=(*self.reads, *measuring.reads),
            paths={**self.paths, **measuring.paths},
            also=(*self.also, *measuring.also),
            exclusive=goal is not None and goal.timed,
        )
        self.changes.append(Change(key, index, label))

    def _measuring(self, goal: Goal) -> _Measuring:
        """What a goal takes beside the model and its samples."""
        if not goal.exported:
            return _Measuring()
        runtime = goal.runtime or self.recipe.targets[0].runtime
        libraries = self.build.runtime_libraries(runtime)
        layout = self.recipe.data.layout
        if goal.timed:
            return _Measuring(Trials(runtime, layout, host=self.build.facts.host), also=libraries)
        device = next(d for d in self.recipe.devices if d.name == goal.device and isinstance(d, EmulatedDevice))
        place = EmulatedPlace(device.via, device.cores, device.time_limit_s, device.memory_limit_bytes)
        return _Measuring(
            Trials(runtime, layout, emulator=self.build.facts.emulator, device=place),
            (profile_role(device.profile), "core models", calibration_role(device.calibration)),
            {"profile": self.build.facts.profiles[device.profile], **calibration_paths(self.build, device)},
            libraries,
        )

    def prune_channels(self, index: int, entry: PruneChannels) -> None:
        study = ""
        if entry.ratio == "auto":
            study = self.build.add(
                "sensitivity",
                TRUNK,
                SensitivitySpec(
                    self.model,
                    self.model_inputs,
                    dataclasses.replace(self.sampling, outputs=_measured(self.recipe, self.sampling.outputs)),
                    studied(entry),
                    metric=self.recipe.task_metric,
                    outputs=self.recipe.outputs or self.recipe.judged,
                    output_names=self.recipe.model.outputs,
                ),
                self.needs,
                reads=(*self.reads, *judging_reads(self.recipe)),
                paths=self.paths,
                also=(*self.also, *judging_libraries(self.recipe)),
            )
        for step in range(1, entry.steps + 1):
            part = f" ({step} of {entry.steps})" if entry.steps > 1 else ""
            self.prune(index, entry, entry.type + part, (step, entry.steps), study)
            if entry.finetune and step < entry.steps:
                self.finetune(index, entry.finetune, f"finetune (after {step} of {entry.steps})")

    def finetune(self, index: int, entry: Finetune, label: str, gradual: PruneUnstructured | None = None) -> None:
        reads, paths, also = training_reads(self.recipe, entry)
        if entry.distill is not None and entry.distill.teacher is None and self.recipe.model.weights:
            reads = (*reads, "weights")
            paths["teacher_weights"] = self.recipe.resolve(self.recipe.model.weights)
        trained_on = gpus_in_words(self.build.facts.gpus, entry.processes)
        key = self.build.add(
            "finetune",
            TRUNK,
            FinetuneSpec(self.model, self.model_inputs, self.sampling, entry, gradual, trained_on),
            self.needs,
            reads=tuple(dict.fromkeys((*self.reads, *reads))),
            paths=self.paths | paths,
            also=(*self.also, *also),
        )
        self.changes.append(Change(key, index, label))


def training_reads(recipe: Recipe, entry: Finetune) -> tuple[tuple[str, ...], dict[str, Path], tuple[str, ...]]:
    """What training reads beside the model and the data: roles of files, paths, libraries."""
    reads: tuple[str, ...] = ()
    paths: dict[str, Path] = {}
    also: tuple[str, ...] = ()
    teacher = entry.distill.teacher if entry.distill else None
    if teacher is not None:
        reads = (teacher_role(teacher),)
        paths["teacher_weights"] = recipe.resolve(teacher.weights)
        also = definition_libraries(teacher.definition)
    reads = (*reads, loss_role(entry.loss)) if entry.loss else (*reads, *loss_reads(recipe))
    return reads, paths, also


def definition_libraries(definition: str) -> tuple[str, ...]:
    """The distribution that a definition comes from, if it is a library's."""
    return (definition.partition(":")[0],) if definition.startswith(SHARED_DEFINITIONS) else ()
