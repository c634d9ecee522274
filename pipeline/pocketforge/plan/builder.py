"""Collects steps and makes their keys.

A key is the SHA-256 of what a step's result depends on: the stage and its version, its spec, the keys of the
steps it needs, the content of the user's files it reads and the versions of the libraries it calls. So two lanes
that quantize alike share one step, and a changed budget changes no key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

from pocketforge.errors import PluginFailed, ToolMissing
from pocketforge.plan.steps import UNKNOWN_VERSION, Facts, Step
from pocketforge.recipe import Recipe
from pocketforge.recipe.data import parse_source
from pocketforge.registries import RUNTIMES, SOURCES, stage_info
from pocketforge.specs.base import Spec

_FORMAT = 2


class Further(TypedDict, total=False):
    """What a step may have besides, as `Step` has it where it says no more here.

    Attributes:
        reads: Roles of the user's files whose content is part of the key.
        paths: Role → the user's own path.
        also: Distributions whose versions are part of the key, besides the stage's.
        after: Keys of steps to wait for whose results it does not read.
        exclusive: Nothing else may run beside it.
        preload: Modules that the fork server imports for it, besides the stage's.
        place: What only one step at a time can use.
    """

    reads: tuple[str, ...]
    paths: Mapping[str, Path]
    also: tuple[str, ...]
    after: tuple[str, ...]
    exclusive: bool
    preload: tuple[str, ...]
    place: str


class Steps:
    """Collects steps; equal keys become one step that serves several lanes."""

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self.recipe = recipe
        self.facts = facts
        self._steps: dict[str, Step] = {}
        self._roots = user_folders(recipe)
        self._data_libraries = (*SOURCES[parse_source(recipe.data.source)[0]].libraries, *recipe.data.libraries)

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
        spec: Spec,
        needs: Mapping[str, str],
        **more: Unpack[Further],
    ) -> str:
        """The key of a step, new or one that serves other lanes already."""
        info = stage_info(stage)
        reads, after = more.get("reads", ()), more.get("after", ())
        key = self._key(stage, spec, needs, reads, more.get("also", ()))
        known = self._steps.get(key)
        if known is not None:
            self._serve(known, lane, after)
            return key
        self._steps[key] = Step(
            stage,
            lane,
            spec,
            dict(needs),
            key,
            paths=dict(more.get("paths", {})),
            after=after,
            exclusive=more.get("exclusive", False),
            preload=(*info.preload, *more.get("preload", ()), info.module),
            place=more.get("place", ""),
            files={role: self.facts.files[role] for role in reads if role in self.facts.files},
            roots=self._roots,
        )
        return key

    def _key(
        self,
        stage: str,
        spec: Spec,
        needs: Mapping[str, str],
        reads: tuple[str, ...],
        also: tuple[str, ...],
    ) -> str:
        info = stage_info(stage)
        libraries = (*info.libraries, *also, *(self._data_libraries if "data" in reads else ()))
        covers = {
            "format": _FORMAT,
            "stage": stage,
            "version": info.version,
            "spec": spec.to_json(),
            "needs": dict(needs),
            "files": {role: self.facts.digests[role] for role in reads if role in self.facts.digests},
            "libraries": {name: self._version(name, stage) for name in libraries},
        }
        return hashlib.sha256(json.dumps(covers, sort_keys=True).encode()).hexdigest()

    def _version(self, library: str, stage: str) -> str:
        """Raises PluginFailed for a library that nobody looked up, ToolMissing for one that does not say its version:
        two of these would have one key."""
        version = self.facts.versions.get(library, "")
        if not version:
            raise PluginFailed(
                f"a step of stage {stage} depends on {library}, whose version is not known: no row names it",
                "the kind of device that lays out the step has to name it in `libraries`",
            )
        if version == UNKNOWN_VERSION:
            raise ToolMissing(
                f"{library} is installed and does not say its version (its METADATA is damaged or gone): what stage "
                f"{stage} makes with it could not be told from what another version makes",
                f"pip install --force-reinstall {library}",
            )
        return version

    def _serve(self, known: Step, lane: str, after: tuple[str, ...]) -> None:
        """One step for one more lane."""
        if lane in known.lane.split("+"):
            return
        merged = dataclasses.replace(known, lane=f"{known.lane}+{lane}", after=tuple(sorted({*known.after, *after})))
        if merged.after != known.after:
            # It now waits for steps that were laid out after it (and nothing reads a step that waits).
            del self._steps[known.key]
        self._steps[known.key] = merged


def user_folders(recipe: Recipe) -> tuple[Path, ...]:
    """The recipe's folder and those of the user's code. Their order is the recipe's: files that this code opens are
    named by place in it, so that a project may lie elsewhere."""
    places = [recipe.model.definition, recipe.data.source.partition(":")[0]]
    places += [file for output in recipe.judged for file in output.named_files().values()]
    for _, entry in recipe.finetunes():
        teacher = entry.distill.teacher if entry.distill else None
        places += [teacher.definition if teacher else "", entry.loss.partition(":")[0]]
    return (Path(recipe.folder), *(recipe.resolve(p).parent if p.endswith(".py") else Path() for p in places))
