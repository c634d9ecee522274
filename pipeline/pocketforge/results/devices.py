"""What a report asks of a kind of device: what a target's steps on it found. A module a kind reads its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pkgutil import resolve_name
from typing import Protocol

from pocketforge.errors import PluginFailed
from pocketforge.plan.steps import Facts, Lane, OnDevice
from pocketforge.records import TargetFacts
from pocketforge.registries import DEVICES
from pocketforge.row_types import type_fault
from pocketforge.run.walk import Outcome


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one device, and how it came about.

    Attributes:
        metric: Its name, as budgets have it.
        value: In the metric's unit.
        device: The device's name.
        how: How it was measured, for the report and the gate.
        samples: The raw values in measuring order, where there are several (latency in ms).
        sha256: Of the file that was measured; empty where the step's key says which it is.
    """

    metric: str
    value: float
    device: str
    how: Mapping[str, object] = field(default_factory=dict)
    samples: tuple[float, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """What one target's steps on one device found, of those that ended.

    Attributes:
        about: For the report's facts of the target, under the kind's own name (`DeviceInfo.about`) and the device's.
        values: What budgets can be on.
        warnings: What a user should be told of them.
        kernels: Whose kernels the outputs are of, "kernels", and "how" these came to run; nothing where no outputs
            were compared.
    """

    about: Mapping[str, object] = field(default_factory=dict)
    values: tuple[Value, ...] = ()
    warnings: tuple[str, ...] = ()
    kernels: Mapping[str, str] = field(default_factory=dict)


class ReadDevice(Protocol):
    """Function `DeviceInfo.results` of a kind."""

    def __call__(self, device: str, on: OnDevice, outcome: Outcome, known: Facts, /) -> DeviceResult:
        """on: the keys of the target's steps on this device, as the kind's own `AddSteps` laid them out."""
        ...


def about_of(via: str) -> str:
    """Where a target's facts hold what is known of devices of a kind. Raises PluginFailed for a place that is taken."""
    about = DEVICES[via].about
    if via not in DEVICES.ours and about in {field.name for field in fields(TargetFacts)}:
        raise PluginFailed(f"kind of device {via}: about = {about!r} is a fact of every target: another name is wanted")
    return about


def in_order(lane: Lane) -> Iterator[tuple[str, OnDevice]]:
    """Each device and its steps: those of a kind together, kinds as the registry has them."""
    for via in DEVICES.in_order({on.via for on in lane.on.values()}):
        yield from lane.of_kind(via).items()


def results_of(lane: Lane, outcome: Outcome, known: Facts) -> dict[str, DeviceResult]:
    """Device → what it found, in that order."""
    results: dict[str, DeviceResult] = {}
    for device, on in in_order(lane):
        place = DEVICES[on.via].results
        with DEVICES.calling(on.via, place):
            read: ReadDevice = resolve_name(place)
            results[device] = read(device, on, outcome, known)
        if not isinstance(results[device], DeviceResult):
            raise PluginFailed(
                f"devices of kind {on.via}: {place} must give a DeviceResult, found a {type(results[device]).__name__}"
            )
        if fault := type_fault(results[device]):
            raise PluginFailed(f"devices of kind {on.via}: {place} gives {fault}", "ask the author of its package")
    return results
