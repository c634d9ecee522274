"""Running a file as on an x86 host: the host's own runner, Python and wheels, under qemu-x86_64 or, where this machine
is such a host, without it.

Same request and same arrays out as on the host.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.emulator.parts import QEMU
from pocketforge.devices.x86 import cpuid, qemu
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.errors import DeviceError, DeviceUnavailable
from pocketforge.specs.count import EmulatedPlace

NATIVE = "this machine"


@dataclass(frozen=True, slots=True)
class Player:
    """What plays an x86 host.

    Attributes:
        start: What the runner's command line begins with; nothing where this machine is one.
        version: In words.
    """

    start: tuple[str, ...]
    version: str


def player(profile: X86Host) -> Player:
    """What plays such a host here. Raises DeviceUnavailable: nothing on this machine can."""
    found = cpuid.here()
    if found is None:
        raise DeviceUnavailable(
            f"{profile.name} runs this environment's own wheels, which must be for x86-64; this is "
            f"{platform.system()} on {platform.machine()}",
            "build on an x86-64 machine under Linux",
        )
    if not profile.differs(found):
        return Player((), NATIVE)
    if not profile.qemu_cpu:
        raise DeviceUnavailable(
            f"{profile.name} can be played only by a machine that is one, as no qemu emulates {profile.kernels}: this "
            f"machine {profile.differs(found)}",
            f"build on a machine with {profile.kernels}, or take this device out of the recipe",
        )
    part = qemu.installed()
    program = part.path(QEMU)
    given = cpuid.under(program, profile.qemu_cpu)
    if given is None:
        raise DeviceUnavailable(
            f"qemu {part.version} ({program}) takes no -cpu {profile.qemu_cpu}", f"known good: 7.2; {qemu.SETUP}"
        )
    if otherwise := profile.differs(given):
        raise DeviceUnavailable(
            f"qemu {part.version} ({program}) as {profile.qemu_cpu} {otherwise}: the features of {profile.name} must "
            "be exact",
            f"known good: 7.2; {qemu.SETUP}",
        )
    return Player((os.fspath(program), "-cpu", profile.qemu_cpu), f"qemu {part.version}, {profile.qemu_cpu}")


def identity(profile: X86Host) -> str:
    """A short name of what decides what a run gives, for keys; `none` when nothing here can play the host."""
    try:
        found = player(profile)
    except DeviceError:
        return "none"
    return f"{found.version} {qemu.installed().files[Path(found.start[0]).name].sha256}" if found.start else NATIVE


def run(request: RunRequest, profile: X86Host) -> RunAnswer:
    """Run one file. Raises ToolFailed with the runtime's own words, DeviceUnavailable, DeviceTimeout, DeviceError (too
    much memory, or it was asked for times)."""
    if request.samples:
        raise DeviceError(
            f"{profile.name} is an x86 host that is played: nothing can be timed on it", "time files on such a machine"
        )
    place, played_by = request.place, player(profile)
    assert isinstance(place, EmulatedPlace)
    under = host.Under(played_by.start, f"{profile.name} ({played_by.version})", place.memory_limit_bytes)
    return host.run(request, timeout_s=place.time_limit_s, under=under)
