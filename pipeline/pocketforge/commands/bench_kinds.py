"""What `pocketforge bench` asks of a kind of device: which devices its words mean, and how files run there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Protocol

from pocketforge import events
from pocketforge.commands.bench_files import File
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.files import Resolve
from pocketforge.measure.bench_rows import BenchRow
from pocketforge.recipe.device import Device
from pocketforge.registries import DEVICES


class BenchOn(Protocol):
    """An object, `DeviceInfo.bench` of a kind; commands/bench_host.py has the simplest.

    OPTIONS: option that only such devices know → what is said, and the hint, where it is given and none of them is
    there. AT_ONCE: whether `run` gets all its devices and files in one call, or a device and a file at a time.
    """

    OPTIONS: Mapping[str, tuple[str, str]]
    AT_ONCE: bool

    def named(
        self, words: Sequence[str], request: BenchRequest, have: Sequence[Device], resolve: Resolve
    ) -> Sequence[Device]:
        """The devices that words of --device mean which begin with the kind's name: none of the recipe's.

        have: devices that are chosen already. resolve: makes a path of one that the recipe writes. Raises RecipeError
        for words that mean nothing, DeviceUnavailable for a device that is not there.
        """
        ...

    def as_asked(self, device: Device, request: BenchRequest) -> Device:
        """A device with what the options say of it. Raises RecipeError for what such a device cannot do."""
        ...

    def run(
        self, files: Sequence[File], devices: Sequence[Device], say: events.Say, resolve: Resolve
    ) -> Sequence[BenchRow]:
        """Run every file on each device. Raises StageFailed for a file that does not load or run there."""
        ...


def bench_on(via: str) -> BenchOn:
    """Of one kind of device."""
    place = DEVICES[via].bench
    with DEVICES.calling(via, place):
        bench: BenchOn = resolve_name(place)
    return bench
