"""Benchmarks outside a build: stored targets of a recipe again, or any model file on given samples.

How files run on a kind of device is its own module's affair (bench_kinds.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketforge import events
from pocketforge.commands.bench_devices import chosen_devices
from pocketforge.commands.bench_files import File, given_file, stored_files
from pocketforge.commands.bench_kinds import bench_on
from pocketforge.commands.bench_phones import compare_on_phones
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.errors import DamagedEntry, StoreError
from pocketforge.files import Resolve
from pocketforge.measure.bench_rows import Benched, BenchRow
from pocketforge.recipe import Recipe
from pocketforge.recipe.device import AdbDevice, Device, HostDevice
from pocketforge.recipe.toml import load_recipe
from pocketforge.registries import DEVICES


def bench(request: BenchRequest, cache: Path, say: events.Say) -> Benched:
    """Run what is asked for on the devices that are asked for; nothing is stored but an A/A's noise floor.

    Raises RecipeError (options, devices, files), StageFailed (a file does not load or run), StoreError, DeviceError.
    """
    recipe = load_recipe(request.what) if request.of_recipe else None
    resolve: Resolve = recipe.resolve if recipe else Path
    devices = chosen_devices(request, recipe.devices if recipe else (HostDevice(),), say, resolve)
    try:
        files = stored_files(recipe, cache, request.targets) if recipe else [given_file(request.what, request.inputs)]
        if request.compares:
            rival = _rival(request, recipe, cache, files[0].inputs)
            phones = [device for device in devices if isinstance(device, AdbDevice)]
            return Benched(compared=compare_on_phones(files, rival, phones, request, say, resolve))
        return Benched(bench_files(files, devices, say, resolve))
    except DamagedEntry as damage:
        raise StoreError(damage.message, f"pocketforge build {request.what} makes it again") from None


def bench_files(files: Sequence[File], devices: Sequence[Device], say: events.Say, resolve: Resolve) -> list[BenchRow]:
    """Run every file on each device. resolve: makes a path of one that a device names."""
    at_once = [via for via in DEVICES.in_order({d.via for d in devices}) if bench_on(via).AT_ONCE]
    rows: list[BenchRow] = []
    for file in files:
        for device in devices:
            if device.via not in at_once:
                with DEVICES.calling(device.via, "bench"):
                    rows += bench_on(device.via).run([file], [device], say, resolve)
    for via in at_once:
        if together := [device for device in devices if device.via == via]:
            with DEVICES.calling(via, "bench"):
                rows += bench_on(via).run(files, together, say, resolve)
    return rows


def _rival(request: BenchRequest, recipe: Recipe | None, cache: Path, inputs: Sequence[Path]) -> File | None:
    """What --against names: a target of the recipe, or a file; None where a file is compared with itself."""
    if not request.against:
        return None
    if recipe is not None and request.against in [target.name for target in recipe.targets]:
        (rival,) = stored_files(recipe, cache, [request.against])
        return rival
    return given_file(Path(request.against), inputs)
