"""Recipe → steps with keys. Pure: everything outside the recipe comes in as Facts.

A key is the SHA-256 of what a step's result depends on: the stage and its version, its spec, the keys of the
steps it needs, the content of the user's files it reads and the versions of the libraries it calls. So two lanes
that quantize alike share one step, and a changed budget changes no key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge.plan.compress import TRUNK, Change, add_compress, add_gains, definition_libraries
from pocketforge.plan.devices import Emulated, OnPhone, add_bench, add_emulated, add_phone
from pocketforge.plan.quantize import Source, add_quantize
from pocketforge.recipe.device import EmulatedDevice, HostDevice
from pocketforge.recipe.recipe import Recipe, Target, data_spec
from pocketforge.runtimes import RUNTIMES
from pocketforge.stages import STAGES

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as it is connected now, or why it is not.

    identity: what decides results on it (model, Android build, kernel), in words. about: of its facts, for reports.
    differs: what it has otherwise than the profile that it stands for. absent: why no phone is there; then nothing
    else is known.
    """

    serial: str = ""
    identity: str = "none"
    about: Mapping[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    absent: str = ""

    def to_json(self) -> dict[str, Any]:
        """For reports: what it is, and what it has otherwise."""
        return {**self.about, "differs": list(self.differs)}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan depends on outside the recipe (`facts.gather` looks it up).

    digests: role → SHA-256 of the content of the files a step reads. versions: distribution → version. host: the
    processor that benchmarks run on. tflite_runtime: the older runtime's environment, or `none`. emulator: what
    emulated devices run in, or `none`. profiles: those that the recipe's devices name → their files. phones: device →
    the connected phone that it is.
    """

    digests: Mapping[str, str]
    versions: Mapping[str, str]
    host: str
    tflite_runtime: str
    emulator: str = "none"
    profiles: Mapping[str, Path] = field(default_factory=dict)
    phones: Mapping[str, Phone] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one stage.

    lane: `trunk`, or the targets it serves joined by "+". needs: role → key of the step whose folder it reads.
    paths: role → the user's own path (where it is does not matter, its content is in the key). after: keys of
    steps to wait for whose results it does not read; one of them must have passed. exclusive: nothing else may run
    beside it (a benchmark). place: what only one step at a time can use (a phone).
    """

    stage: str
    lane: str
    spec: Mapping[str, Any]
    needs: Mapping[str, str]
    key: str
    paths: Mapping[str, Path] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    exclusive: bool = False
    preload: tuple[str, ...] = ()
    place: str = ""

    @property
    def name(self) -> str:
        return f"{self.stage}[{self.lane}]"


@dataclass(frozen=True, slots=True)
class Lane:
    """The keys of one target's steps; `quantize` is empty for a float target, `bench` maps device → key.

    emulated: device → its three steps. phones: device → its two.
    """

    target: Target
    quantize: str
    export: str
    verify: str
    bench: Mapping[str, str]
    emulated: Mapping[str, Emulated] = field(default_factory=dict)
    phones: Mapping[str, OnPhone] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order that can be run from first to last, the trunk's keys and each target's lane.

    changes: the steps that compress the model, in order. gains: the step that measures them; empty without any.
    """

    steps: tuple[Step, ...]
    data: str
    reference: str
    lanes: tuple[Lane, ...]
    changes: tuple[Change, ...] = ()
    gains: str = ""

    def step(self, key: str) -> Step:
        return next(s for s in self.steps if s.key == key)


def make_plan(recipe: Recipe, facts: Facts) -> Plan:
    """Lay out every step of a build. Equal inputs give equal plans."""
    build = _Builder(recipe, facts)
    folder = Path(recipe.folder)
    sampling = data_spec(recipe.data, recipe.seed, recipe.task)
    data_paths = {"data_root": folder}
    if recipe.data.labels:
        data_paths["labels"] = recipe.resolve(recipe.data.labels)
    data = build.add("data", TRUNK, sampling, {}, reads=("data", "labels"), paths=data_paths)

    model_paths = {"data_root": folder}
    if recipe.model.weights:
        model_paths["weights"] = recipe.resolve(recipe.model.weights)
    model = {"definition": recipe.model.definition, "args": recipe.model.args, "seed": recipe.seed}
    also = definition_libraries(recipe.model.definition)
    changes = add_compress(build, recipe, model, model_paths, also)
    trunk = {"checkpoint": changes[-1].key} if changes else {}
    reference = build.add(
        "reference",
        TRUNK,
        {
            **model,
            "inputs": [dataclasses.asdict(i) for i in recipe.model.inputs],
            "outputs": list(recipe.model.outputs),
            "task": recipe.task,
            "metric": recipe.task_metric,
        },
        {"data": data, **trunk},
        reads=("definition",) + (() if trunk else ("weights",)),
        paths=model_paths,
        also=also,
    )
    gains = add_gains(build, recipe, model, model_paths, also, data, changes) if changes else ""
    source = Source(model, model_paths, also, data, reference, trunk.get("checkpoint", ""))
    lanes = tuple(_add_lane(build, recipe, target, source) for target in recipe.targets)
    return Plan(build.steps(), data, reference, lanes, changes, gains)


def _add_lane(build: _Builder, recipe: Recipe, target: Target, source: Source) -> Lane:
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
        {
            "runtime": target.runtime,
            "scheme": target.quantize.scheme,
            "layout": target.layout,
            "model_layout": recipe.data.preprocess.layout if recipe.data.preprocess else "NCHW",
            "io": target.io,
            "opset": target.opset,
        },
        export_needs,
        also=runtime.export_libraries,
        preload=runtime.preload,
    )
    legacy = target.runtime == "tflite" and target.verify.tflite_runtime != "skip"
    verify = build.add(
        "verify",
        target.name,
        {
            "runtime": target.runtime,
            "scheme": target.quantize.scheme,
            "trained": target.quantize.finetune is not None,
            "task": recipe.task,
            "metric": recipe.task_metric,
            "limits": dataclasses.asdict(target.verify),
            "tflite_runtime": build.facts.tflite_runtime if legacy else "skip",
        },
        {**trunk, "export": export},
        also=runtime.run_libraries,
    )
    bench = {}
    emulated = {}
    phones = {}
    keys = {"data": data, "reference": source.reference, "export": export, "verify": verify}
    for device in recipe.devices:
        if isinstance(device, HostDevice):
            bench[device.name] = add_bench(build, target, device, keys, runtime.run_libraries)
        elif isinstance(device, EmulatedDevice):
            emulated[device.name] = add_emulated(build, recipe, target, device, keys)
        else:
            phones[device.name] = add_phone(build, recipe, target, device, keys)
    return Lane(target, quantize, export, verify, bench, emulated, phones)


class _Builder:
    """Collects steps; equal keys become one step that serves several lanes."""

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self.recipe = recipe
        self.facts = facts
        self._steps: dict[str, Step] = {}

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps.values())

    @staticmethod
    def runtime_libraries(runtime: str) -> tuple[str, ...]:
        """Distributions that export to a runtime and run its files."""
        info = RUNTIMES[runtime]
        return (*info.export_libraries, *info.run_libraries)

    def add(
        self,
        stage: str,
        lane: str,
        spec: Mapping[str, Any],
        needs: Mapping[str, str],
        *,
        reads: tuple[str, ...] = (),
        paths: Mapping[str, Path] | None = None,
        also: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
        exclusive: bool = False,
        preload: tuple[str, ...] = (),
        place: str = "",
    ) -> str:
        info = STAGES[stage]
        covers = {
            "format": _FORMAT,
            "stage": stage,
            "version": info.version,
            "spec": spec,
            "needs": dict(needs),
            "files": {role: self.facts.digests[role] for role in reads if role in self.facts.digests},
            "libraries": {name: self.facts.versions.get(name, "none") for name in (*info.libraries, *also)},
        }
        key = hashlib.sha256(json.dumps(covers, sort_keys=True).encode()).hexdigest()
        known = self._steps.get(key)
        if known is not None:
            if lane not in known.lane.split("+"):
                merged = dataclasses.replace(
                    known, lane=f"{known.lane}+{lane}", after=tuple(sorted({*known.after, *after}))
                )
                if merged.after != known.after:
                    # It now waits for steps that were laid out after it (and nothing reads a step that waits).
                    del self._steps[key]
                self._steps[key] = merged
            return key
        self._steps[key] = Step(
            stage, lane, spec, dict(needs), key, dict(paths or {}), after, exclusive, info.preload + preload, place
        )
        return key
