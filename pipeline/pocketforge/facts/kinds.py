"""What is asked of a kind of device before a plan: the files and the machine that its steps depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Protocol

from pocketforge.errors import PluginFailed
from pocketforge.plan.steps import Facts
from pocketforge.recipe import Recipe
from pocketforge.recipe.device import Device
from pocketforge.registries import DEVICES
from pocketforge.row_types import type_fault


@dataclass(frozen=True, slots=True)
class Looked:
    """What a kind of device looked up.

    Attributes:
        facts: Those it was given, with its own; `Facts.devices` is for words that change when results there would.
        files: Role (plan/roles.py) → files whose content is part of the keys of steps that read this role.
    """

    facts: Facts
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)


class LookUp(Protocol):
    """Function `DeviceInfo.facts` of a kind."""

    def __call__(self, recipe: Recipe, devices: Sequence[Device], facts: Facts, /) -> Looked:
        """devices: those of the recipe that are of this kind, one at least.

        Raises RecipeError for what cannot be read, so that it is said before anything runs. A device that is not there
        is a fact: its steps' keys say so.
        """
        ...


def look_up(recipe: Recipe, facts: Facts) -> Looked:
    """What every kind of the recipe's devices looks up, one after another."""
    files: dict[str, Sequence[Path]] = {}
    for via in DEVICES.in_order({device.via for device in recipe.devices}):
        info = DEVICES[via]
        devices = [device for device in recipe.devices if device.via == via]
        if info.facts:
            with DEVICES.calling(via, info.facts):
                look: LookUp = resolve_name(info.facts)
                looked = look(recipe, devices, facts)
            if not isinstance(looked, Looked):
                raise PluginFailed(
                    f"kind of device {via}: {info.facts} must give Looked, found a {type(looked).__name__}"
                )
            if fault := type_fault(looked):
                raise PluginFailed(f"kind of device {via}: {info.facts} gives {fault}")
            facts = looked.facts
            files |= looked.files
    return Looked(facts, files)
