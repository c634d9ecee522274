"""Which `-cpu` makes a qemu-aarch64 behave as a profile's core: its features to the letter, and its MIDR.

The runtimes choose their kernels by AT_HWCAP, which comes from `-cpu` and not from a /proc/cpuinfo, so a CPU with a
feature more than the profile's would run kernels that the device never runs, and one with a feature less would end
with an illegal instruction. Of the CPUs that the installed qemu has, the first is taken that gives just the
profile's features; any model does, as qemu gives each instruction the same meaning under all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pocketforge.devices.emulator.probe import cpu_models, examine
from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceUnavailable

# Features by which the runtimes choose kernels for the models that targets hold (float32, int8), and by which glibc
# and compiler support code choose what they run: a CPU must have just those of the profile.
EXACT = frozenset({
    "asimd", "atomics", "fphp", "asimdhp", "asimddp", "i8mm", "mops", "sve", "sve2", "svei8mm", "sve2p1",
    "sme", "sme2", "sme2p1", "smei8i32", "smef16f32", "smeb16f32", "smef32f32", "smef64f64", "smei16i64", "smefa64",
    "smei16i32", "smebi32i32", "smeb16b16", "smef16f16",
})  # fmt: skip
# Kernels for half-precision and bfloat16 models choose by these: they must not lack, but may be there unasked, as no
# qemu can leave them out of the one CPU that has i8mm. The rest (aes, lrcpc, asimdrdm, dit …) selects nothing.
NEEDED = frozenset({"asimdfhm", "bf16", "ebf16", "svebf16", "sveebf16", "sveb16b16"})

# Models by age, so that the oldest that fits is taken after the core's own. The A64FX without SVE is the only one
# with half-precision arithmetic and no dot product, as Snapdragons with a Cortex-A75 report it.
_STAND_INS = (
    "cortex-a53", "cortex-a57", "cortex-a72", "a64fx", "cortex-a55", "cortex-a76", "neoverse-n1", "neoverse-v1",
    "cortex-a710", "neoverse-n2", "max",
)  # fmt: skip
# A version refuses an option with a switch that it does not know, so each is tried as a whole. Pointer authentication
# is off first: emulating its cipher is slow, and without it the same instructions do nothing.
_WITHOUT_SVE = ("", ",sve=off")
_WITH_SVE = (",sve128=on",)  # every core of a phone has vectors of 128 bits; a model's own may be longer
_MAX_WITHOUT_SVE = (",sme=off,sve=off,pauth=off", ",sme=off,sve=off", ",sve=off")
_MAX_WITH_SVE = (",sme=off,sve128=on,pauth=off", ",sme=off,sve128=on", ",sve128=on")
# QEMU's release notes.
_FIRST_WITH = {
    "asimddp": "3.0", "asimdhp": "3.0", "fphp": "3.0", "sve": "3.0", "i8mm": "6.1", "bf16": "6.1", "sve2": "6.1",
    "svei8mm": "6.1", "svebf16": "6.1", "sme": "7.1", "mops": "8.2", "sme2": "10.1", "sve2p1": "10.1",
}  # fmt: skip


def cpu_option(profile: DeviceProfile, cluster: Cluster, qemu: Path, qemu_version: str) -> str:
    """The value of `-cpu`, as "cortex-a76,midr=0x414fd0b0".

    Raises DeviceUnavailable, which names the features that this qemu cannot give (or cannot leave out).
    """
    needed = (EXACT | NEEDED) & set(profile.features)
    nearest: frozenset[str] | None = None
    for option in _options(cluster, "sve" in needed, cpu_models(qemu)):
        answer = examine(qemu, f"{option},midr={cluster.midr:#x}")
        if answer is None or answer.midr != cluster.midr:
            continue
        given = answer.features & (EXACT | (NEEDED & needed))
        if given == needed:
            return f"{option},midr={cluster.midr:#x}"
        if nearest is None or _distance(given, needed) < _distance(nearest, needed):
            nearest = given
    raise _refusal(profile, needed, nearest, qemu, qemu_version)


def _options(cluster: Cluster, sve: bool, models: tuple[str, ...]) -> Iterator[str]:
    for model in dict.fromkeys((cluster.core, *_STAND_INS)):
        switches: tuple[str, ...]
        if model == "max":
            switches = _MAX_WITH_SVE if sve else _MAX_WITHOUT_SVE
        else:
            switches = _WITH_SVE if sve else _WITHOUT_SVE
        if model in models:
            yield from (model + switch for switch in switches)


def _distance(given: frozenset[str], wanted: frozenset[str]) -> tuple[int, int]:
    """A CPU that has too much is nearer than one that lacks something: less is to be changed about it."""
    return len(wanted - given), len(given - wanted)


def _refusal(
    profile: DeviceProfile, wanted: frozenset[str], nearest: frozenset[str] | None, qemu: Path, version: str
) -> DeviceUnavailable:
    who = f"qemu {version} ({qemu})"
    if nearest is None:
        return DeviceUnavailable(f"{who} cannot be told which core to be: it takes no -cpu …,midr=", "known good: 7.2")
    missing, excess = sorted(wanted - nearest), sorted(nearest - wanted)
    faults = [f"cannot give {', '.join(missing)}"] if missing else []
    faults += [f"cannot leave out {', '.join(excess)}"] if excess else []
    known = {_FIRST_WITH[name] for name in missing if name in _FIRST_WITH}
    first = max(known, key=lambda text: tuple(map(int, text.split("."))), default="")
    unknown = [name for name in missing if name not in _FIRST_WITH]
    hint = f"qemu {first} or later gives {', '.join(n for n in missing if n in _FIRST_WITH)}" if first else ""
    if unknown:
        hint += ("; " if hint else "") + f"no qemu that we know of gives {', '.join(unknown)}"
    if not missing:
        hint = "a qemu with more CPU models may: see pocketforge docs devices"
    return DeviceUnavailable(f"{who} {' and '.join(faults)}: the features of {profile.name} must be exact", hint)
