"""Files counted on emulated devices, outside a build."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pocketforge import events
from pocketforge.commands.bench_files import File, reason_of
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.errors import RecipeError, StageFailed, ToolFailed
from pocketforge.files import Resolve, hash_file
from pocketforge.measure.bench_rows import CountedRow
from pocketforge.recipe.device import Device, EmulatedDevice

if TYPE_CHECKING:
    from pocketforge.estimation.layers import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Supposed(EmulatedDevice):
    """One whose estimates are also of what --what-if and --clock suppose."""

    what_if: str
    clock_ghz: float | None


class BenchEmulated:
    """The `BenchOn` of emulated devices."""

    OPTIONS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "--explain": ("--explain is of estimates on emulated devices", "--profile NAME emulates one"),
        "--what-if": ("--what-if is of estimates on emulated devices", "--profile NAME emulates one"),
        "--clock": ("--clock is of estimates on emulated devices", "--profile NAME emulates one"),
    }
    AT_ONCE: ClassVar[bool] = False

    def named(
        self, _words: Sequence[str], request: BenchRequest, _have: Sequence[Device], _resolve: Resolve
    ) -> Sequence[Device]:
        if not request.profiles:
            raise RecipeError("--device emulator needs a --profile", "pocketforge device profiles lists them")
        devices = []
        for profile in request.profiles:
            try:
                devices.append(EmulatedDevice(profile, cores=request.cores, calibration=request.calibration))
            except ValueError as error:
                raise RecipeError(f"--profile {profile}: {error}") from None
        return devices

    def as_asked(self, device: Device, request: BenchRequest) -> Device:
        if (request.threads or 1) > 1:
            raise RecipeError(
                f"counts and estimates of an emulated device are of 1 thread, found --threads {request.threads}"
            )
        if not (request.what_if or request.clock_ghz):
            return device
        assert isinstance(device, EmulatedDevice)
        own = {each.name: getattr(device, each.name) for each in dataclasses.fields(device) if each.init}
        return _Supposed(**own, what_if=request.what_if, clock_ghz=request.clock_ghz)

    def run(
        self, files: Sequence[File], devices: Sequence[Device], say: events.Say, resolve: Resolve
    ) -> Sequence[CountedRow]:
        rows = []
        for file in files:
            for device in devices:
                assert isinstance(device, EmulatedDevice)
                say(f"counting {file.name} on {device.name}")
                rows.append(_count(file, device, resolve))
        return rows


def _count(file: File, device: EmulatedDevice, resolve: Resolve) -> CountedRow:
    from pocketforge.devices.profile_files import find_profile
    from pocketforge.estimation.what_if import parse
    from pocketforge.measure.on_emulator import check_clock, count_file, estimate_file, layers_of_file

    profile = find_profile(device.profile, resolve)
    calibration = resolve(device.calibration) if device.calibration else None
    if isinstance(device, _Supposed):
        check_clock(profile, device.cores, device.clock_ghz)
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        try:
            counts = count_file(
                file.path,
                file.runtime,
                file.inputs,
                profile,
                device.cores,
                scratch=Path(scratch),
                time_limit_s=device.time_limit_s,
                memory_limit_bytes=device.memory_limit_bytes,
            )
        except ToolFailed as error:
            raise StageFailed(f"{file.name} does not load or run on {device.name}: {reason_of(error)}") from None
    estimated = estimate_file(file.path, counts, profile, device.cores, calibration)
    layers: tuple[Layer, ...] = ()
    if estimated.estimate is not None:
        layers = layers_of_file(file.path, counts, profile, device.cores, calibration)
    supposed = None
    if isinstance(device, _Supposed):
        what = parse(device.what_if) if device.what_if else None
        clock = f"clock={device.clock_ghz:g}" if device.clock_ghz else ""
        found = estimate_file(
            file.path, counts, profile, device.cores, calibration, supposed=what, clock_ghz=device.clock_ghz
        )
        supposed = (" ".join(filter(None, (what.words if what else "", clock))), found)
    return CountedRow(
        file.name, device.name, device.via, hash_file(file.path), file.runtime, 1, counts, estimated, layers, supposed
    )


BENCH = BenchEmulated()
