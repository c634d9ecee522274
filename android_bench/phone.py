"""What a phone is: its names, its Android, its cores by cluster, its memory. Read in one command; it does not change.

What a phone does not say is "" or None, never a guess.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from android_bench.cores import core_name, identity_of, parse_cpuinfo, rank
from android_bench.texts import (
    cleaned,
    clock_ghz,
    cpu_list,
    facts,
    marked,
    named_lines,
    plain,
    properties,
    sections,
    whole,
)

if TYPE_CHECKING:
    from android_bench.adb import Link

# One `grep` prints every small file with its path: a `cat` for each would take a phone a second.
_CPU_FILES = (
    "possible present online cpu[0-9]*/cpu_capacity cpu[0-9]*/regs/identification/midr_el1 "
    "cpu[0-9]*/cpufreq/cpuinfo_max_freq cpu[0-9]*/cpufreq/cpuinfo_min_freq cpu[0-9]*/cpufreq/scaling_governor "
    "cpufreq/policy[0-9]*/related_cpus cpufreq/policy[0-9]*/cpuinfo_max_freq "
    "cpufreq/policy[0-9]*/cpuinfo_min_freq cpufreq/policy[0-9]*/scaling_governor"
)
_COMMANDS = {
    "properties": "getprop",
    "kernel": "uname -r",
    "boot": "cat /proc/sys/kernel/random/boot_id",
    "memory": "cat /proc/meminfo",
    "cpuinfo": "cat /proc/cpuinfo",
    "cpus": f"cd /sys/devices/system/cpu && grep -sH '' {_CPU_FILES}",
}
# Android's own virtual devices: the emulator's two boards, and Cuttlefish.
_VIRTUAL = ("goldfish", "ranchu", "cutf")


@dataclass(frozen=True, slots=True)
class CpuCluster:
    """Cores of one kind, one capacity and one highest clock.

    name: "big" for the fastest (or the only) ones, "little" for the slowest, "mid" for what lies between; a phone may
    have two mids. capacity: the scheduler's, 1024 for the fastest core. core: "cortex-a76", or "" when unknown.
    """

    name: str
    cpus: tuple[int, ...]
    capacity: int | None
    max_clock_ghz: float | None
    min_clock_ghz: float | None
    core: str


@dataclass(frozen=True, slots=True)
class PhoneFacts:
    """One phone. clusters: fastest first. offline: CPUs that are there but switched off now.

    device, model, soc, platform: ro.product.device, ro.product.model, ro.soc.model (from Android 12), and
    ro.board.platform or ro.hardware. features: as /proc/cpuinfo has them. governor: cpufreq's, the fastest cores'
    first where they differ. emulator: one of Android's own virtual devices.
    """

    serial: str
    manufacturer: str
    model: str
    device: str
    soc: str
    soc_manufacturer: str
    platform: str
    android_version: str
    sdk: int | None
    abi: str
    abis: tuple[str, ...]
    fingerprint: str
    build_type: str
    kernel: str
    boot_id: str
    features: tuple[str, ...]
    clusters: tuple[CpuCluster, ...]
    offline: tuple[int, ...]
    ram_bytes: int | None
    governor: str | None
    emulator: bool

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it; unknown is "" or null."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(slots=True)
class _Cpu:
    capacity: int | None = None
    max_ghz: float | None = None
    min_ghz: float | None = None
    core: str = ""
    governor: str = ""


def read_facts(link: Link) -> PhoneFacts:
    """Everything about the phone, by one command. Raises PhoneError when it cannot be asked."""
    token = secrets.token_hex(8)
    done = link.shell(marked(token, _COMMANDS), timeout_s=60, repeat=True)
    return parse_facts(link.serial, sections(done.stdout, token))


def parse_facts(serial: str, texts: Mapping[str, str]) -> PhoneFacts:
    """The facts in what the commands printed; a command that printed nothing costs only what it would have told."""
    said = properties(texts.get("properties", ""))

    def first(*names: str) -> str:
        return next((said[name] for name in names if name in said), "")

    info = parse_cpuinfo(texts.get("cpuinfo", ""))
    files = named_lines(texts.get("cpus", ""))
    cpus, offline = _cpus(files, info.cores)
    clusters = group(cpus)
    fastest_first = [cpus[n] for cluster in clusters for n in cluster.cpus]
    abi = first("ro.product.cpu.abi", "ro.system.product.cpu.abi")
    abis = [cleaned(name) for name in first("ro.product.cpu.abilist", "ro.system.product.cpu.abilist").split(",")]
    boot_id = texts.get("boot", "").strip()
    hardware = first("ro.hardware", "ro.boot.hardware")
    return PhoneFacts(
        serial=serial,
        manufacturer=first("ro.product.manufacturer", "ro.product.vendor.manufacturer"),
        model=first("ro.product.model", "ro.product.vendor.model"),
        device=first("ro.product.device", "ro.product.vendor.device"),
        soc=first("ro.soc.model"),
        soc_manufacturer=first("ro.soc.manufacturer"),
        platform=first("ro.board.platform") or hardware,
        android_version=first("ro.build.version.release", "ro.build.version.release_or_codename"),
        sdk=whole(first("ro.build.version.sdk")),
        abi=abi,
        abis=tuple(dict.fromkeys(name for name in [*abis, abi, first("ro.product.cpu.abi2")] if name)),
        fingerprint=first("ro.build.fingerprint"),
        build_type=first("ro.build.type"),
        kernel=cleaned(texts.get("kernel", "").partition("\n")[0]),
        boot_id=boot_id if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id) else "",
        features=info.features,
        clusters=clusters,
        offline=offline,
        ram_bytes=_ram_bytes(texts.get("memory", "")),
        governor=", ".join(dict.fromkeys(cpu.governor for cpu in fastest_first if cpu.governor)) or None,
        emulator="1" in (said.get("ro.kernel.qemu"), said.get("ro.boot.qemu")) or hardware.startswith(_VIRTUAL),
    )


def _ram_bytes(meminfo: str) -> int | None:
    """Linux, fs/proc/meminfo.c: `MemTotal:        7750184 kB`."""
    match = re.fullmatch(r"([0-9]{1,15}) kB", facts(meminfo).get("MemTotal", ""))
    return int(match[1]) * 1024 if match else None


def _cpus(files: Mapping[str, Sequence[str]], cores: Mapping[int, int]) -> tuple[dict[int, _Cpu], tuple[int, ...]]:
    """What is known of each CPU, and which of them are offline.

    Those offline have no cpufreq folder of their own: their policy, where one of its CPUs is online, speaks for them.
    """

    def only(path: str) -> str:
        content = files.get(path, ())
        return content[0] if len(content) == 1 else ""

    online = cpu_list(only("online"))
    present = cpu_list(only("present")) or cpu_list(only("possible")) or online or tuple(sorted(cores))
    cpus = {n: _Cpu() for n in present}
    for n, cpu in cpus.items():
        capacity = whole(only(f"cpu{n}/cpu_capacity"))
        cpu.capacity = capacity if capacity is not None and 0 < capacity <= 4096 else None
        midr = re.fullmatch(r"0x([0-9a-fA-F]{1,16})", only(f"cpu{n}/regs/identification/midr_el1"))
        cpu.core = core_name(cores.get(n, identity_of(int(midr[1], 16)) if midr else None))
        _clocks(cpu, f"cpu{n}/cpufreq", only)
    for path in files:
        policy, slash, name = path.rpartition("/")
        if not slash or name != "related_cpus":
            continue
        together = [cpus[n] for n in cpu_list(only(path)) if n in cpus]
        # All cores of a policy are of one kind: what one of them tells holds for all.
        known = _Cpu()
        _clocks(known, policy, only)
        for cpu in [known, *together]:
            known.capacity = known.capacity or cpu.capacity
            known.core = known.core or cpu.core
            known.max_ghz, known.min_ghz = known.max_ghz or cpu.max_ghz, known.min_ghz or cpu.min_ghz
        for cpu in together:
            cpu.capacity, cpu.core = cpu.capacity or known.capacity, cpu.core or known.core
            cpu.max_ghz, cpu.min_ghz = cpu.max_ghz or known.max_ghz, cpu.min_ghz or known.min_ghz
            cpu.governor = cpu.governor or known.governor
    offline = tuple(n for n in present if online and n not in online)
    return {n: cpu for n, cpu in cpus.items() if n not in offline or cpu != _Cpu()}, offline


def _clocks(cpu: _Cpu, folder: str, only: Any) -> None:
    cpu.max_ghz = clock_ghz(only(f"{folder}/cpuinfo_max_freq"))
    cpu.min_ghz = clock_ghz(only(f"{folder}/cpuinfo_min_freq"))
    cpu.governor = cleaned(only(f"{folder}/scaling_governor"))


def group(cpus: Mapping[int, _Cpu]) -> tuple[CpuCluster, ...]:
    """Clusters, fastest first: by capacity where every core has one, else by kind and highest clock."""
    alike: dict[tuple[int | None, float | None, str], list[int]] = {}
    for n, cpu in sorted(cpus.items()):
        alike.setdefault((cpu.capacity, cpu.max_ghz, cpu.core), []).append(n)
    rated = all(capacity is not None for capacity, _, _ in alike)

    def speed(item: tuple[tuple[int | None, float | None, str], list[int]]) -> tuple[float, ...]:
        (capacity, clock, core), members = item
        return (capacity or 0) if rated else 0, rank(core), clock or 0, members[0]

    found = sorted(alike.items(), key=speed, reverse=True)
    names = ["mid"] * len(found)
    if found:
        names[-1], names[0] = "little", "big"
    return tuple(
        CpuCluster(name, tuple(members), capacity, clock, cpus[members[0]].min_ghz, core)
        for name, ((capacity, clock, core), members) in zip(names, found, strict=True)
    )
