"""The steps of one target on each device of a recipe. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.plan.builder import Steps
from pocketforge.plan.roles import calibration_role, profile_role, runner_role
from pocketforge.plan.steps import Emulated, OnDevice, Timed
from pocketforge.recipe import Target
from pocketforge.recipe.device import AdbDevice, Device, EmulatedDevice, HostDevice
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.registries import RUNTIMES
from pocketforge.specs.bench import BenchSpec, Sitting
from pocketforge.specs.bench_phone import BenchPhoneSpec, Rounds
from pocketforge.specs.count import CountSpec, EmulatedPlace, EstimateSpec
from pocketforge.specs.verify_device import VerifiedPlace, VerifyDeviceSpec


def calibration_paths(build: Steps, device: EmulatedDevice) -> dict[str, Path]:
    """A device's own calibration file as a path that a step reads; empty for the shipped one."""
    return {"calibration": build.recipe.resolve(device.calibration)} if device.calibration else {}


def place_of(device: EmulatedDevice) -> dict[str, Any]:
    """Where a file runs, as part of a step's spec. The profile itself is a file that the step reads."""
    return {
        "via": device.via,
        "cores": device.cores,
        "time_limit_s": device.time_limit_s,
        "memory_limit_bytes": device.memory_limit_bytes,
    }


def add_host(build: Steps, target: Target, device: Device, needs: Mapping[str, str]) -> OnDevice:
    """A benchmark on this machine: `verify` ran the file here already."""
    assert isinstance(device, HostDevice)
    bench = build.add(
        "bench",
        target.name,
        BenchSpec(target.runtime, build.facts.host, Sitting.of(device)),
        {role: needs[role] for role in ("data", "export")},
        also=RUNTIMES[target.runtime].run_libraries,
        after=(needs["verify"],),
        exclusive=True,
    )
    return Timed(device.via, "", bench)


def add_emulator(build: Steps, target: Target, device: Device, needs: Mapping[str, str]) -> OnDevice:
    """Outputs compared on a profile's cores, and what verify let pass counted; of an x86 host the outputs alone."""
    assert isinstance(device, EmulatedDevice)
    return _add_x86(build, target, device, needs) if device.plays_x86 else _add_arm(build, target, device, needs)


def _add_arm(build: Steps, target: Target, device: EmulatedDevice, needs: Mapping[str, str]) -> Emulated:
    role = profile_role(device.profile)
    profile: dict[str, Path] = {"profile": build.facts.profiles[device.profile]}
    # What runs there is not the Python packages: the emulator's own parts say what it is.
    verify = _add_verify(build, target, _judged_on(device), build.facts.emulator, _Reads((role,), profile), needs)
    count = build.add(
        "count",
        target.name,
        CountSpec(target.runtime, build.facts.emulator, EmulatedPlace(**place_of(device))),
        {role: needs[role] for role in ("data", "export")},
        reads=(role,),
        paths=profile,
        after=(needs["verify"],),
    )
    estimate = build.add(
        "estimate",
        target.name,
        EstimateSpec(device.cores),
        {"export": needs["export"], "count": count},
        reads=(role, "core models", calibration_role(device.calibration)),
        paths={**profile, **calibration_paths(build, device)},
    )
    return Emulated(device.via, verify, count, estimate)


def _add_x86(build: Steps, target: Target, device: EmulatedDevice, needs: Mapping[str, str]) -> OnDevice:
    paths = {"profile": build.facts.profiles[device.profile]}
    # The distributions of this environment run the file there too.
    reads = _Reads((profile_role(device.profile),), paths, RUNTIMES[target.runtime].run_libraries)
    verify = _add_verify(build, target, _judged_on(device), build.facts.x86[device.profile], reads, needs)
    return OnDevice(device.via, verify)


def add_phone(build: Steps, target: Target, device: Device, needs: Mapping[str, str]) -> OnDevice:
    """Outputs compared on a phone; what verify let pass is timed."""
    assert isinstance(device, AdbDevice)
    recipe = build.recipe
    files = {
        "runner": device.runners.get(target.runtime, ""),
        "runner_library": device.runner_libraries.get(target.runtime, ""),
    }
    reads = tuple(runner_role(file) for file in files.values() if file)
    paths = {role: recipe.resolve(file) for role, file in files.items() if file}
    phone = build.facts.phones[device.name]
    where = f"phone {phone.serial}"
    place: dict[str, Any] = {
        "via": device.via,
        "serial": phone.serial,
        "cores": device.cores,
        "threads": device.threads,
        "time_limit_s": device.time_limit_s,
    }
    # Another phone, another Android on it or another build of our runners gives other results.
    emulator = "" if files["runner"] else build.facts.emulator
    verify = build.add(
        "verify_device",
        target.name,
        VerifyDeviceSpec(
            runtime=target.runtime,
            scheme=target.quantize.scheme,
            task=recipe.task,
            device=VerifiedPlace(
                **place,
                name=device.name,
                eval_samples=device.eval_samples,
                limits=DeviceLimits(device.min_sqnr_db, device.min_argmax_agreement),
            ),
            emulator=emulator,
            phone=phone.identity,
        ),
        _compared(needs),
        reads=reads,
        paths=paths,
        place=where,
    )
    bench = build.add(
        "bench_phone",
        target.name,
        BenchPhoneSpec(target.runtime, phone.identity, emulator, phone.serial, Rounds.of(device)),
        {role: needs[role] for role in ("data", "export")},
        reads=reads,
        paths=paths,
        after=(verify,),
        place=where,
    )
    return Timed(device.via, verify, bench)


@dataclass(frozen=True, slots=True)
class _Reads:
    """What a step reads beside other steps' folders.

    Attributes:
        roles: Of the user's files and of profiles, whose content goes into its key.
        paths: Role → where it is.
        libraries: Distributions whose versions go into its key.
    """

    roles: tuple[str, ...]
    paths: Mapping[str, Path]
    libraries: tuple[str, ...] = ()


def _judged_on(device: EmulatedDevice) -> VerifiedPlace:
    """Where and how a file's outputs are compared. The profile itself is a file that the step reads."""
    return VerifiedPlace(
        via=device.via,
        cores=device.cores,
        eval_samples=device.eval_samples,
        limits=DeviceLimits(device.min_sqnr_db, device.min_argmax_agreement, device.max_steps),
        time_limit_s=device.time_limit_s,
        memory_limit_bytes=device.memory_limit_bytes,
    )


def _add_verify(
    build: Steps, target: Target, device: VerifiedPlace, emulator: str, reads: _Reads, needs: Mapping[str, str]
) -> str:
    """The key of the step that compares a file's outputs on an emulated device with the host's."""
    return build.add(
        "verify_device",
        target.name,
        VerifyDeviceSpec(target.runtime, target.quantize.scheme, build.recipe.task, device, emulator),
        _compared(needs),
        reads=reads.roles,
        paths=reads.paths,
        also=reads.libraries,
    )


def _compared(needs: Mapping[str, str]) -> dict[str, str]:
    """What outputs on a device are compared with. The quantized graph says what a step of the output is."""
    return {role: needs[role] for role in ("data", "reference", "export", "verify", "quantize") if role in needs}
