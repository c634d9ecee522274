"""The trunk's compression: `[[compress]]` → steps, each from the checkpoint of the one before. Pure, as `plan`.

An entry may become several steps: channels pruned in parts with fine-tuning between, or a sensitivity study before
`ratio = "auto"`. Gradual unstructured pruning becomes part of the fine-tuning that follows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketforge.plan.builder import Steps
from pocketforge.plan.devices import calibration_paths, place_of
from pocketforge.plan.roles import calibration_role, loss_role, profile_role, teacher_role
from pocketforge.plan.steps import TRUNK, Change
from pocketforge.recipe import SHARED_DEFINITIONS, Recipe, data_spec
from pocketforge.recipe.compress import Compress, DropLayers, Finetune, PruneChannels, PruneUnstructured
from pocketforge.recipe.device import EmulatedDevice


def add_compress(
    build: Steps, recipe: Recipe, model: Mapping[str, Any], paths: Mapping[str, Path], also: tuple[str, ...]
) -> tuple[Change, ...]:
    """Lay out the steps of every entry, in order. model: definition, args, seed; paths: of the user's own files."""
    trunk = _Trunk(build, recipe, model, paths, also)
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
    model: Mapping[str, Any],
    paths: Mapping[str, Path],
    also: tuple[str, ...],
    data: str,
    changes: tuple[Change, ...],
) -> str:
    """The step that measures what each change bought: sizes, and latencies side by side in one sitting."""
    runtimes = list(dict.fromkeys(target.runtime for target in recipe.targets))
    layout = recipe.data.preprocess.layout if recipe.data.preprocess else "NCHW"
    libraries = [name for runtime in runtimes for name in build.runtime_libraries(runtime)]
    return build.add(
        "gains",
        TRUNK,
        {
            **model,
            "labels": [change.label for change in changes],
            "inputs": [dataclasses.asdict(i) for i in recipe.model.inputs],
            "runtimes": runtimes,
            "model_layout": layout,
            "task": recipe.task,
            "host": build.facts.host,
        },
        {"data": data, **{f"state_{n}": change.key for n, change in enumerate(changes, 1)}},
        reads=("definition", "weights"),
        paths=paths,
        also=(*also, *libraries),
        exclusive=True,
    )


class _Trunk:
    def __init__(
        self,
        build: Steps,
        recipe: Recipe,
        model: Mapping[str, Any],
        paths: Mapping[str, Path],
        also: tuple[str, ...],
    ) -> None:
        self.build, self.recipe, self.also = build, recipe, also
        self.paths = dict(paths)
        self.sampling = data_spec(recipe.data, recipe.seed, recipe.task)
        self.base = {
            **model,
            "data": self.sampling,
            "task": recipe.task,
            "inputs": [dataclasses.asdict(i) for i in recipe.model.inputs],
        }
        self.changes: list[Change] = []

    @property
    def needs(self) -> dict[str, str]:
        return {"checkpoint": self.changes[-1].key} if self.changes else {}

    @property
    def reads(self) -> tuple[str, ...]:
        return ("definition", "data", "labels", *(() if self.changes else ("weights",)))

    def prune(self, index: int, entry: Compress, label: str, part: tuple[int, int] = (1, 1), study: str = "") -> None:
        goal = entry.goal if isinstance(entry, PruneChannels | DropLayers) else None
        timed = goal is not None and goal.metric == "latency_ms"
        reads, paths = self.reads, dict(self.paths)
        settings = dataclasses.asdict(entry)
        # What happens between the parts is a step of its own.
        settings.pop("finetune", None)
        spec = {**self.base, "prune": settings, "part": list(part)}
        also = self.also
        if goal is not None and (timed or goal.emulated):
            runtime = goal.runtime or self.recipe.targets[0].runtime
            layout = self.recipe.data.preprocess.layout if self.recipe.data.preprocess else "NCHW"
            spec |= {"runtime": runtime, "model_layout": layout}
            also = (*also, *self.build.runtime_libraries(runtime))
        if timed:
            spec["host"] = self.build.facts.host
        if goal is not None and goal.emulated:
            device = next(d for d in self.recipe.devices if d.name == goal.device and isinstance(d, EmulatedDevice))
            spec |= {"emulator": self.build.facts.emulator, "device": dataclasses.asdict(place_of(device))}
            reads = (*reads, profile_role(device.profile), "core models", calibration_role(device.calibration))
            paths |= {"profile": self.build.facts.profiles[device.profile], **calibration_paths(self.build, device)}
        needs = {**self.needs, **({"sensitivity": study} if study else {})}
        key = self.build.add("prune", TRUNK, spec, needs, reads=reads, paths=paths, also=also, exclusive=timed)
        self.changes.append(Change(key, index, label))

    def prune_channels(self, index: int, entry: PruneChannels) -> None:
        study = ""
        if entry.ratio == "auto":
            study = self.build.add(
                "sensitivity",
                TRUNK,
                {**self.base, "prune": sensitivity_settings(entry)},
                self.needs,
                reads=self.reads,
                paths=self.paths,
                also=self.also,
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
        settings = dataclasses.asdict(entry)
        spec = {**self.base, "finetune": settings, "gradual": dataclasses.asdict(gradual) if gradual else None}
        key = self.build.add(
            "finetune",
            TRUNK,
            spec,
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
    if entry.loss:
        reads = (*reads, loss_role(entry.loss))
    return reads, paths, also


def sensitivity_settings(entry: PruneChannels) -> dict[str, Any]:
    """What a sensitivity study depends on: not how much is pruned in the end."""
    return {
        "importance": entry.importance,
        "round_to": entry.round_to,
        "protect": list(entry.protect),
        "max_ratio": entry.max_ratio,
    }


def definition_libraries(definition: str) -> tuple[str, ...]:
    """The distribution that a definition comes from, if it is a library's."""
    return (definition.partition(":")[0],) if definition.startswith(SHARED_DEFINITIONS) else ()
