"""A test phone's processor as the kernel shows it: /proc/cpuinfo, /sys/devices/system/cpu, and clocks that move on.

Linux: Documentation/admin-guide/pm/cpufreq.rst, Documentation/cpu-freq/cpufreq-stats.rst (time_in_state in 10 ms).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CPU = "/sys/devices/system/cpu"


def cpuinfo_text(cores: Sequence[Mapping[str, Any]], features: str, hardware: str) -> str:
    """/proc/cpuinfo of an arm64 kernel (arch/arm64/kernel/cpuinfo.c); vendors' kernels add `Hardware`."""
    blocks = [
        f"processor\t: {number}\nBogoMIPS\t: 38.40\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x{core['implementer']:02x}\nCPU architecture: 8\nCPU variant\t: 0x{core['variant']:x}\n"
        f"CPU part\t: 0x{core['part']:03x}\nCPU revision\t: {core['revision']}\n"
        for number, core in enumerate(cores)
    ]
    return "\n".join(blocks) + (f"\nHardware\t: {hardware}\n" if hardware else "\n")


def midr(core: Mapping[str, Any]) -> int:
    """MIDR_EL1 (Arm ARM D19.2.122)."""
    architecture_by_features = 0xF
    fields = (
        (core["implementer"], 24), (core["variant"], 20), (architecture_by_features, 16), (core["part"], 4),
        (core["revision"], 0),
    )  # fmt: skip
    return sum(int(value) << shift for value, shift in fields)


def cpu_files(cores: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """path → text of what belongs to a core rather than to its frequency policy."""
    everyone = f"0-{len(cores) - 1}\n" if len(cores) > 1 else "0\n"
    files = {f"{CPU}/{name}": everyone for name in ("possible", "present", "online")}
    files[f"{CPU}/kernel_max"] = "31\n"
    for number, core in enumerate(cores):
        folder = f"{CPU}/cpu{number}"
        files[f"{folder}/online"] = "1\n"
        files[f"{folder}/cpu_capacity"] = f"{core['capacity']}\n"
        files[f"{folder}/regs/identification/midr_el1"] = f"0x{midr(core):016x}\n"
    return files


class Policy:
    """One cpufreq policy: the cores that share a clock. Frequencies in kHz, lowest first."""

    def __init__(
        self, root: Path, cpus: Sequence[int], frequencies_khz: Sequence[int], governors: Sequence[str]
    ) -> None:
        self.cpus, self.frequencies = tuple(cpus), tuple(frequencies_khz)
        self.folder = root / CPU.lstrip("/") / "cpufreq" / f"policy{self.cpus[0]}"
        self.wanted_khz = self.cap_khz = self.frequencies[-1]
        # As after a boot that took a while at the lowest clock.
        self.spent_s = dict.fromkeys(self.frequencies, 0.0) | {self.frequencies[0]: 41.7}
        (self.folder / "stats").mkdir(parents=True)
        numbers = " ".join(map(str, self.cpus))
        self._write("affected_cpus", numbers)
        self._write("related_cpus", numbers)
        self._write("cpuinfo_min_freq", self.frequencies[0])
        self._write("cpuinfo_max_freq", self.frequencies[-1])
        self._write("scaling_min_freq", self.frequencies[0])
        self._write("scaling_available_frequencies", " ".join(map(str, self.frequencies)) + " ")
        self._write("scaling_available_governors", " ".join(governors) + " ")
        self._write("scaling_governor", governors[-1])
        self._write("scaling_driver", "cpufreq-dt")
        self.change()
        for cpu in self.cpus:
            link = root / CPU.lstrip("/") / f"cpu{cpu}" / "cpufreq"
            link.symlink_to(f"../cpufreq/{self.folder.name}")

    @property
    def current_khz(self) -> int:
        return min(self.wanted_khz, self.cap_khz)

    def nearest(self, ghz: float) -> int:
        return min(self.frequencies, key=lambda khz: abs(khz - ghz * 1e6))

    def change(self) -> None:
        """Show the clock and the cap as they now are."""
        self._write("scaling_max_freq", self.cap_khz)
        self._write("scaling_cur_freq", self.current_khz)
        self.spend(0)

    def spend(self, seconds: float) -> None:
        self.spent_s[self.current_khz] += seconds
        lines = (f"{khz} {int(spent * 100)}" for khz, spent in self.spent_s.items())
        self._write("stats/time_in_state", "\n".join(lines))

    def _write(self, name: str, value: object) -> None:
        replace_text(self.folder / name, f"{value}\n")


class Clocks:
    """Every policy of the phone; `tick` adds the time since the last one to the clock that each runs at."""

    def __init__(self, root: Path, policies: Sequence[Mapping[str, Any]]) -> None:
        self.policies = [Policy(root, p["cpus"], p["frequencies_khz"], p["governors"]) for p in policies]
        self.then_s = time.monotonic()

    def tick(self) -> None:
        now_s = time.monotonic()
        for policy in self.policies:
            policy.spend(now_s - self.then_s)
        self.then_s = now_s

    def set(self, cpu: int, *, clock_ghz: float | None = None, cap_ghz: float | None = None) -> tuple[int, int]:
        """What the cores that share `cpu`'s clock run at, and at most; returns both in kHz, as the nearest steps."""
        self.tick()
        (policy,) = (policy for policy in self.policies if cpu in policy.cpus)
        if clock_ghz is not None:
            policy.wanted_khz = policy.nearest(clock_ghz)
        if cap_ghz is not None:
            policy.cap_khz = policy.nearest(cap_ghz)
        policy.change()
        return policy.current_khz, policy.cap_khz


def replace_text(path: Path, text: str, mode: int = 0o444) -> None:
    """Whole or not at all: what reads it meanwhile sees the old text."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.chmod(mode)
    draft.rename(path)
