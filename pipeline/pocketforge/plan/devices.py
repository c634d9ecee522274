"""The steps of one target on each device of a recipe. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketforge.plan.builder import Steps
from pocketforge.plan.roles import calibration_role, profile_role, runner_role
from pocketforge.plan.steps import Emulated, OnDevice, Timed
from pocketforge.recipe import Recipe, Target
from pocketforge.recipe.device import AdbDevice, Device, EmulatedDevice, HostDevice
from pocketforge.registries import RUNTIMES
from pocketforge.specs.bench import BenchSpec, Sitting
from pocketforge.specs.bench_phone import BenchPhoneSpec, Rounds
from pocketforge.specs.count import CountSpec, EmulatedPlace, EstimateSpec


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
    place = place_of(device)
    # What runs there is not the Python packages: the emulator's own parts say what it is.
    shared: dict[str, Any] = {"runtime": target.runtime, "emulator": build.facts.emulator}
    verify = _add_verify(build, build.recipe, target, {**shared, "device": place}, device, needs, (role,), profile)
    count = build.add(
        "count",
        target.name,
        CountSpec(target.runtime, build.facts.emulator, EmulatedPlace(**place)),
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
    role = profile_role(device.profile)
    spec: dict[str, Any] = {
        "runtime": target.runtime,
        "emulator": build.facts.x86[device.profile],
        "device": place_of(device),
    }
    paths = {"profile": build.facts.profiles[device.profile]}
    # The distributions of this environment run the file there too.
    also = RUNTIMES[target.runtime].run_libraries
    return OnDevice(
        device.via, _add_verify(build, build.recipe, target, spec, device, needs, (role,), paths, also=also)
    )


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
    shared: dict[str, Any] = {"runtime": target.runtime, "phone": phone.identity, "emulator": emulator}
    named = {**shared, "device": {**place, "name": device.name}}
    verify = _add_verify(build, recipe, target, named, device, needs, reads, paths, where)
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


def _add_verify(
    build: Steps,
    recipe: Recipe,
    target: Target,
    spec: dict[str, Any],
    device: EmulatedDevice | AdbDevice,
    needs: Mapping[str, str],
    reads: tuple[str, ...],
    paths: Mapping[str, Path],
    place: str = "",
    also: tuple[str, ...] = (),
) -> str:
    """The key of the step that compares a file's outputs on a device with the host's. spec: what it runs in, and
    "device", where."""
    limits: dict[str, float | None] = {
        "min_sqnr_db": device.min_sqnr_db,
        "min_argmax_agreement": device.min_argmax_agreement,
    }
    if isinstance(device, EmulatedDevice):
        limits["max_steps"] = device.max_steps
    return build.add(
        "verify_device",
        target.name,
        {
            **spec,
            "scheme": target.quantize.scheme,
            "task": recipe.task,
            "metric": recipe.task_metric,
            "device": {**spec["device"], "eval_samples": device.eval_samples, "limits": limits},
        },
        # The quantized graph says what a step of the output is.
        {role: needs[role] for role in ("data", "reference", "export", "verify", "quantize") if role in needs},
        reads=reads,
        paths=paths,
        place=place,
        also=also,
    )
