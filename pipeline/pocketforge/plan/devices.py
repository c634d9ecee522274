"""The steps of one target on each device of a recipe. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.plan.builder import Steps
from pocketforge.plan.judging import judging_libraries, judging_reads
from pocketforge.plan.roles import calibration_role, profile_role, runner_role
from pocketforge.plan.steps import Emulated, OnDevice, Timed
from pocketforge.recipe import Target
from pocketforge.recipe.device import AdbDevice, Device, EmulatedDevice, HostDevice
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.recipe.packed import judged_as_packed
from pocketforge.registries import DEVICES, RUNTIMES
from pocketforge.specs.bench import BenchSpec, Sitting
from pocketforge.specs.bench_phone import BenchPhoneSpec, Rounds
from pocketforge.specs.count import CountSpec, EmulatedPlace, EstimateSpec
from pocketforge.specs.places import PhonePlace
from pocketforge.specs.verify_device import VerifyDeviceSpec


def calibration_paths(build: Steps, device: EmulatedDevice) -> dict[str, Path]:
    """A device's own calibration file as a path that a step reads; empty for the shipped one."""
    return {"calibration": build.recipe.resolve(device.calibration)} if device.calibration else {}


def place_of(device: EmulatedDevice) -> EmulatedPlace:
    """Where a file runs, as part of a step's spec. The profile itself is a file that the step reads."""
    return EmulatedPlace(device.via, device.cores, device.time_limit_s, device.memory_limit_bytes)


def scheme_of(target: Target) -> str:
    """Empty of a file made elsewhere: what it holds says it."""
    return "" if target.file else target.quantize.scheme


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
    spec = _judged(build, target, device, build.facts.emulator)
    verify = add_verify(build, target, spec, needs, Reads((role,), profile))
    count = build.add(
        "count",
        target.name,
        CountSpec(target.runtime, build.facts.emulator, place_of(device)),
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
    reads = Reads((profile_role(device.profile),), paths, RUNTIMES[target.runtime].run_libraries)
    spec = _judged(build, target, device, build.facts.x86[device.profile])
    return OnDevice(device.via, add_verify(build, target, spec, needs, reads))


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
    place = PhonePlace(device.via, device.cores, device.time_limit_s, device.name, phone.serial, device.threads)
    # Another phone, another Android on it or another build of our runners gives other results.
    emulator = "" if files["runner"] else build.facts.emulator
    limits = DeviceLimits(device.min_sqnr_db, device.min_argmax_agreement)
    verify = add_verify(
        build,
        target,
        VerifyDeviceSpec(
            target.runtime,
            scheme_of(target),
            recipe.task,
            place,
            device.eval_samples,
            limits,
            emulator,
            phone.identity,
            judged_as_packed(target.package, recipe.judged),
            verify=target.verify if target.has_int8_weights else None,
            trained=target.has_int8_weights and target.quantize.finetune is not None,
        ),
        needs,
        Reads(reads, paths, place=where),
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
class Reads:
    """What a step on a device reads beside other steps' folders, and what it has to itself.

    Attributes:
        roles: Of the user's files and of profiles, whose content goes into its key.
        paths: Role → where it is, as the stage's inputs have it.
        libraries: Distributions whose versions go into its key.
        place: What only one step at a time can use, in words; empty for nothing.
    """

    roles: tuple[str, ...] = ()
    paths: Mapping[str, Path] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    place: str = ""


def _judged(build: Steps, target: Target, device: EmulatedDevice, emulator: str) -> VerifyDeviceSpec:
    limits = DeviceLimits(device.min_sqnr_db, device.min_argmax_agreement, device.max_steps)
    return VerifyDeviceSpec(
        target.runtime,
        scheme_of(target),
        build.recipe.task,
        place_of(device),
        device.eval_samples,
        limits,
        emulator,
        judged=judged_as_packed(target.package, build.recipe.judged),
        verify=target.verify if target.has_int8_weights else None,
        trained=target.has_int8_weights and target.quantize.finetune is not None,
    )


def add_verify(
    build: Steps, target: Target, spec: VerifyDeviceSpec, needs: Mapping[str, str], reads: Reads | None = None
) -> str:
    """The key of the step that compares a file's outputs on a device, of any kind, with the host's."""
    reads = reads or Reads()
    return build.add(
        "verify_device",
        target.name,
        spec,
        # The quantized graph says what a step of the output is.
        {role: needs[role] for role in ("data", "reference", "export", "verify", "quantize") if role in needs},
        reads=(*reads.roles, *judging_reads(build.recipe)),
        paths={"data_root": Path(build.recipe.folder), **reads.paths},
        also=(
            *DEVICES[spec.device.via].libraries,
            *target.quantize.info.libraries,
            *reads.libraries,
            *judging_libraries(build.recipe),
        ),
        place=reads.place,
    )
