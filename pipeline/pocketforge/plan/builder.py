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
from typing import Any

from pocketforge.plan.steps import Facts, Step, spec_json
from pocketforge.recipe import Recipe
from pocketforge.recipe.data import parse_source
from pocketforge.registries import RUNTIMES, SOURCES, STAGES
from pocketforge.specs.base import Spec

_FORMAT = 2


class Steps:
    """Collects steps; equal keys become one step that serves several lanes."""

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self.recipe = recipe
        self.facts = facts
        self._steps: dict[str, Step] = {}
        self._roots = user_folders(recipe)
        self._source_libraries = SOURCES[parse_source(recipe.data.source)[0]].libraries

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
        spec: Spec | Mapping[str, Any],
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
        if "data" in reads:
            also = (*also, *self._source_libraries)
        covers = {
            "format": _FORMAT,
            "stage": stage,
            "version": info.version,
            "spec": spec_json(spec),
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
            stage, lane, spec, dict(needs), key, dict(paths or {}), after, exclusive, info.preload + preload, place,
            {role: self.facts.files[role] for role in reads if role in self.facts.files},
            self._roots,
        )  # fmt: skip
        return key


def user_folders(recipe: Recipe) -> tuple[Path, ...]:
    """The recipe's folder and those of the user's code. Their order is the recipe's: files that this code opens are
    named by place in it, so that a project may lie elsewhere."""
    places = [recipe.model.definition, recipe.data.source.partition(":")[0]]
    for _, entry in recipe.finetunes():
        teacher = entry.distill.teacher if entry.distill else None
        places += [teacher.definition if teacher else "", entry.loss.partition(":")[0]]
    return (Path(recipe.folder), *(recipe.resolve(p).parent if p.endswith(".py") else Path() for p in places))
