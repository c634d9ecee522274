"""Which cores a phone has: /proc/cpuinfo on arm64, and the names of MIDR_EL1's implementers and parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.texts import lines

# MIDR_EL1's implementer << 12 | part. Sources: Linux, arch/arm64/include/asm/cputype.h; pytorch/cpuinfo,
# src/arm/uarch.c (which of Arm's cores Qualcomm's Kryos are).
NAMES: Mapping[int, str] = {
    0x41D04: "cortex-a35",
    0x41D03: "cortex-a53",
    0x51801: "cortex-a53",
    0x41D05: "cortex-a55",
    0x51803: "cortex-a55",
    0x51805: "cortex-a55",
    0x41D07: "cortex-a57",
    0x41D08: "cortex-a72",
    0x41D09: "cortex-a73",
    0x51800: "cortex-a73",
    0x41D0A: "cortex-a75",
    0x51802: "cortex-a75",
    0x41D0B: "cortex-a76",
    0x51804: "cortex-a76",
    0x41D0D: "cortex-a77",
    0x41D41: "cortex-a78",
    0x41D46: "cortex-a510",
    0x41D80: "cortex-a520",
    0x41D47: "cortex-a710",
    0x41D4D: "cortex-a715",
    0x41D81: "cortex-a720",
    0x41D87: "cortex-a725",
    0x41D44: "cortex-x1",
    0x41D48: "cortex-x2",
    0x41D4E: "cortex-x3",
    0x41D82: "cortex-x4",
    0x41D85: "cortex-x925",
    0x53003: "exynos-m4",
    0x51001: "oryon",
}
# Within one chip the in-order cores are always the slowest, and Arm's X, Samsung's and Qualcomm's own the fastest.
_LITTLE = ("cortex-a35", "cortex-a53", "cortex-a55", "cortex-a510", "cortex-a520")
_FASTEST = ("cortex-x", "exynos-m", "oryon")


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """cores: implementer << 12 | part of each CPU that is online and listed. features: what all of them have."""

    cores: Mapping[int, int]
    features: tuple[str, ...]


def core_name(identity: int | None) -> str:
    """A core as in `-mcpu` ("cortex-a76") by implementer << 12 | part; empty for one we have no name for."""
    return NAMES.get(identity, "") if identity is not None else ""


def rank(name: str) -> int:
    """0, 1 or 2: little, other (unknown ones too), fastest. Orders the cores of one chip, not those of two."""
    if name in _LITTLE:
        return 0
    return 2 if name.startswith(_FASTEST) else 1


def identity_of(midr: int) -> int:
    """implementer << 12 | part of a MIDR_EL1."""
    return midr >> 24 << 12 | midr >> 4 & 0xFFF


def parse_cpuinfo(text: str) -> CpuInfo:
    """/proc/cpuinfo of arm64. Source: Linux, arch/arm64/kernel/cpuinfo.c, c_show.

    One block a CPU; kernels before 3.19 wrote the cores' kind once for all, which says nothing of each.
    """
    cores: dict[int, int] = {}
    features: list[list[str]] = []
    cpu: int | None = None
    implementer: int | None = None
    once_for_all = False
    for line in lines(text):
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if key == "processor":
            once_for_all |= cpu is not None
            cpu, implementer = (int(value) if re.fullmatch(r"[0-9]{1,4}", value) else None), None
        elif key == "Features" and value.isprintable():
            features.append(value.split())
        elif key == "CPU implementer":
            implementer = _hex(value, 2)
        elif key == "CPU part" and cpu is not None and implementer is not None:
            part = _hex(value, 3)
            if part is not None:
                cores.setdefault(cpu, implementer << 12 | part)
            cpu = None
    common = set(features[0]).intersection(*map(set, features)) if features else set()
    return CpuInfo(
        {} if once_for_all else cores, tuple(dict.fromkeys(name for name in (features or [[]])[0] if name in common))
    )


def _hex(text: str, digits: int) -> int | None:
    return int(text, 16) if re.fullmatch(rf"0x[0-9a-fA-F]{{1,{digits}}}", text) else None
