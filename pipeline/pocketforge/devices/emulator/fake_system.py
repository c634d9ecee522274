"""The parts of /proc and /sys from which the runtimes learn which CPU they run on, as the profile's device shows them.

`qemu -L FOLDER` looks there first for every absolute path that the program opens; without it, a program would read
the host's own /proc/cpuinfo.

Only the cores of one cluster are shown, those that the program is to run on. A phone with two kinds of cores shows
both, and XNNPACK asks getcpu() at every turn on which kind it is, to run that one's variant of a kernel. Emulated,
getcpu() gives the number of the host's CPU: with a phone's order, big cores would run little cores' kernels (seen: a
Pixel 4's A76 as its A55, +32 % instructions). With one cluster every number leads to its kernels.

The fastest cluster runs just what it runs on a phone. For the others this is an approximation: XNNPACK lays out
weights for the fastest core of all, so a little core beside big ones runs its own variants of the big ones' kernels
(seen with the shipped digits model on a Pixel 4's A55: float32 4 % fewer instructions than here, int8 0.1 % more).
"""

from __future__ import annotations

from pathlib import Path

from pocketforge.devices.cpu_features import NAMES
from pocketforge.devices.profiles import Cluster, DeviceProfile

LINE_BYTES = 64


def write_system(profile: DeviceProfile, cluster: Cluster, folder: Path) -> None:
    """Write FOLDER/proc/cpuinfo and FOLDER/sys/devices/system/cpu for the cores of one cluster of the device."""
    cores = folder / "sys" / "devices" / "system" / "cpu"
    files = {folder / "proc" / "cpuinfo": cpuinfo_text(profile, cluster)}
    everyone = _list(cluster.count)
    files[cores / "kernel_max"] = str(max(cluster.count - 1, 7))
    files |= {cores / name: everyone for name in ("possible", "present", "online")}
    for index in range(cluster.count):
        core = cores / f"cpu{index}"
        files |= {core / name: text for name, text in _core_files(profile, cluster, index).items()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")


def cpuinfo_text(profile: DeviceProfile, cluster: Cluster) -> str:
    """/proc/cpuinfo of a kernel with those cores only (arch/arm64/kernel/cpuinfo.c prints it so)."""
    features = " ".join(sorted(profile.features, key=NAMES.index))
    return "\n".join(
        f"processor\t: {index}\n"
        "BogoMIPS\t: 38.40\n"  # the generic timer's 19.2 MHz, as on Snapdragons; nothing chooses by it
        f"Features\t: {features}\n"
        f"CPU implementer\t: {cluster.implementer:#04x}\n"
        "CPU architecture: 8\n"  # always: Linux says 8 for ARMv9 too
        f"CPU variant\t: {cluster.variant:#x}\n"
        f"CPU part\t: {cluster.part:#05x}\n"
        f"CPU revision\t: {cluster.revision}\n"
        for index in range(cluster.count)
    )


def _core_files(profile: DeviceProfile, cluster: Cluster, index: int) -> dict[str, str]:
    alone, everyone = str(index), _list(cluster.count)
    khz = str(round(cluster.clock_ghz * 1e6))
    files = {
        "online": "1",
        # Fixed at its highest, as a benchmark has it; the slowest clock is not in the profile.
        "cpufreq/cpuinfo_max_freq": khz,
        "cpufreq/cpuinfo_min_freq": khz,
        "topology/core_id": alone,
        "topology/physical_package_id": "0",
        "topology/cluster_id": "0",
        "topology/core_cpus_list": alone,
        "topology/thread_siblings_list": alone,
        "topology/core_siblings_list": everyone,
        "topology/cluster_cpus_list": everyone,
        "topology/package_cpus_list": everyone,
    }
    caches = [
        (1, "Data", cluster.l1d_bytes, alone),
        (1, "Instruction", cluster.l1i_bytes, alone),
        (2, "Unified", cluster.l2_bytes, everyone if cluster.l2_shared else alone),
        (3, "Unified", profile.l3_bytes, everyone),
    ]
    present = [cache for cache in caches if cache[2]]
    for number, (level, kind, size_bytes, shared) in enumerate(present):
        facts = {
            "level": str(level),
            "type": kind,
            "size": f"{size_bytes // 1024}K",
            "coherency_line_size": str(LINE_BYTES),
            "shared_cpu_list": shared,
        }
        files |= {f"cache/index{number}/{name}": text for name, text in facts.items()}
    return files


def _list(count: int) -> str:
    return "0" if count == 1 else f"0-{count - 1}"
