"""What steps on emulated devices depend on: profiles, the emulator's parts, what plays an x86 host, core models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pocketforge.devices.emulator import parts
from pocketforge.devices.profile_files import find_profile, load_any
from pocketforge.devices.profiles import DeviceProfile
from pocketforge.devices.x86.device import identity
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.errors import RecipeError
from pocketforge.facts.kinds import Looked
from pocketforge.plan.roles import calibration_role, profile_role
from pocketforge.plan.steps import Facts
from pocketforge.recipe import Recipe
from pocketforge.recipe.device import X86_PREFIX, Device, EmulatedDevice

ESTIMATION = Path(__file__).parents[1] / "estimation"


def look_up(recipe: Recipe, devices: Sequence[Device], facts: Facts) -> Looked:
    """Each profile is read, so that its faults are said before anything runs."""
    emulated = [device for device in devices if isinstance(device, EmulatedDevice)]
    profiles = {device.profile: find_profile(device.profile, recipe.resolve) for device in emulated}
    x86_hosts = {}
    for device in emulated:
        profile = _checked(device, profiles[device.profile])
        if isinstance(profile, X86Host):
            x86_hosts[device.profile] = identity(profile)
    files = {profile_role(name): [path] for name, path in profiles.items()}
    files |= {calibration_role(d.calibration): [recipe.resolve(d.calibration)] for d in emulated if d.calibration}
    files["core models"] = [path for path in ESTIMATION.rglob("*") if path.suffix in (".toml", ".json")]
    arm = any(not device.plays_x86 for device in emulated)
    return Looked(
        dataclasses.replace(
            facts, profiles=profiles, x86=x86_hosts, emulator=parts.identity() if arm else facts.emulator
        ),
        files,
    )


def _checked(device: EmulatedDevice, file: Path) -> DeviceProfile | X86Host:
    profile = load_any(file)
    if isinstance(profile, DeviceProfile) == device.plays_x86:
        kind = "an ARM device" if device.plays_x86 else "an x86 host"
        raise RecipeError(
            f"device {device.name!r}: {file} is a profile of {kind}",
            f"files of x86 hosts are called {X86_PREFIX}….toml, and those of ARM devices are not",
        )
    try:
        if isinstance(profile, DeviceProfile):
            profile.cluster(device.cores)
    except ValueError as error:
        raise RecipeError(f"device {device.name!r}: {error}") from None
    return profile
