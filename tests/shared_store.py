"""Parts of the shipped digits model's build, each made once in a test run, for tests that only read them.

The product's own steps make them, through its own store: a step has a lock, so workers that ask for one part at the
same time wait for the one that makes it, while another part is made beside it. What the run's cold build
(release_build.py) has finished by then is copied: nobody waits for that build to end, and nothing here is found by it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from release_build import RELEASE
from warm_server import warm_stages

from pocketforge import events
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Lane, Plan, Step
from pocketforge.plan.why import with_why
from pocketforge.recipe.device import HostDevice
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.part import run_part
from pocketforge.run.store import Store
from pocketforge.specs.why import WhySpec

SUFFIXES = {"executorch": "pte", "tflite": "tflite", "onnx": "onnx"}


def target_of(runtime: str, kind: str) -> str:
    """A target's name in the shipped recipe. kind: fp32, int8."""
    return f"digits_{runtime}_{kind}"


class DigitsParts:
    """The shipped recipe's steps, each run when it is first asked for. Their folders must not be changed: copy them."""

    def __init__(self, folder: Path, cold_cache: Path) -> None:
        """folder: one for the whole run. cold_cache: of the run's cold build, which may still be at work, or not be."""
        self.cache, self.cold_cache = folder / "cache", cold_cache
        # Emulated devices stand behind all of these steps: without them, nobody has to look for an emulator.
        self.recipe = dataclasses.replace(load_recipe(RELEASE), devices=(HostDevice(),), budgets=())
        self._used: set[str] = set()

    @cached_property
    def _facts(self) -> Facts:
        return gather(self.recipe)

    @cached_property
    def plan(self) -> Plan:
        return make_plan(self.recipe, self._facts)

    @cached_property
    def data(self) -> Path:
        """The preprocessed samples: 539 to evaluate, 100 to calibrate with."""
        return self._folder(self.plan.data)

    @cached_property
    def reference(self) -> Path:
        """The traced graph, and what it answers on the eval samples."""
        return self._folder(self.plan.reference)

    @cached_property
    def quantized(self) -> Path:
        """The graphs in static int8, for all three runtimes the same."""
        return self._folder(self.lane("onnx", "int8").quantize)

    def exported(self, runtime: str, kind: str) -> Path:
        """A target's export: its files, and export.json."""
        return self._folder(self.lane(runtime, kind).export)

    def model(self, runtime: str, kind: str) -> Path:
        return self.exported(runtime, kind) / f"model.{SUFFIXES[runtime]}"

    def for_why(self, *targets: str) -> Mapping[str, tuple[dict[str, Path], WhySpec]]:
        """Target → what stage `why` gets for it: its inputs by role, and its spec."""
        plan, keys = with_why(self.plan, self.recipe, self._facts, targets)
        steps = {name: plan.step(key) for name, key in keys.items()}
        folders = self._folders({key for step in steps.values() for key in step.needs.values()})
        return {
            name: (
                {role: folders[key] for role, key in step.needs.items()} | dict(step.paths),
                plan.spec(step.key, WhySpec),
            )
            for name, step in steps.items()
        }

    def check(self) -> None:
        """Raises DamagedEntry if one of the parts that were asked for is not what its step made."""
        store = Store(self.cache)
        for key in self._used:
            assert store.get(key), "a part that every test shares is gone"

    def lane(self, runtime: str, kind: str) -> Lane:
        return next(lane for lane in self.plan.lanes if lane.target.name == target_of(runtime, kind))

    def _folder(self, key: str) -> Path:
        return self._folders({key})[key]

    def _folders(self, keys: set[str]) -> dict[str, Path]:
        for step in self._steps(keys):
            self._copy_if_made(step)
        with warm_stages():  # one fork server, not one for these parts and one for builds
            outcome = run_part(self.plan, keys, self.cache, "test", _changed_is_an_error)
        self._used |= keys
        return {key: outcome.entries[key].files for key in keys}

    def _steps(self, keys: set[str]) -> list[Step]:
        """The steps of `keys` and of all that they need."""
        wanted = set(keys)
        for step in reversed(self.plan.steps):
            if step.key in wanted:
                wanted.update(step.needs.values())
        return [step for step in self.plan.steps if step.key in wanted]

    def _copy_if_made(self, step: Step) -> None:
        """Take a step's result from the cold build's cache, if it lies there; a result appears there in one rename."""
        there = self.cold_cache / "v1" / "entries" / step.key[:2] / step.key
        store = Store(self.cache)
        if store.has(step.key) or not (there / "manifest.json").is_file():
            return
        with store.lock(step.key), store.workspace() as workspace:
            if not store.has(step.key):
                shutil.copytree(there / "files", workspace, dirs_exist_ok=True)
                manifest = json.loads((there / "manifest.json").read_text("utf-8"))
                entry = store.publish(step.key, workspace, manifest["meta"])
                assert entry.hashes == manifest["files"], there


def _changed_is_an_error(event: events.Event) -> None:
    """A build warns of a result that is not what it was, and makes it again: here, a test has written into it."""
    assert not isinstance(event, events.Warned), event
