"""What a plan asks of a kind of device: which steps a target's file goes through on it."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Protocol

from pocketforge.errors import PluginFailed
from pocketforge.plan.builder import Steps
from pocketforge.plan.steps import OnDevice
from pocketforge.recipe import Target
from pocketforge.recipe.device import Device
from pocketforge.registries import DEVICES


class AddSteps(Protocol):
    """Function `DeviceInfo.steps` of a kind; plan/devices.py has ours."""

    def __call__(self, build: Steps, target: Target, device: Device, needs: Mapping[str, str], /) -> OnDevice:
        """Lay out the steps of a target's file on one device.

        needs: keys by role: `data`, `reference`, `export`, `verify` and, for a quantized target, `quantize`.
        """
        ...


def add_steps(build: Steps, target: Target, device: Device, needs: Mapping[str, str]) -> OnDevice:
    """As the device's kind lays them out."""
    place = DEVICES[device.via].steps
    with DEVICES.calling(device.via, place):
        add: AddSteps = resolve_name(place)
        on = add(build, target, device, needs)
    if not isinstance(on, OnDevice) or on.via != device.via:
        raise PluginFailed(f"kind of device {device.via}: {place} must give an OnDevice of this kind, found {on!r}")
    return on
