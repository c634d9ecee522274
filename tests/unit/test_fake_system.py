"""The /proc and /sys that an emulated program sees, read back as the libraries read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketforge.devices.emulator.fake_system import cpuinfo_text, write_system
from pocketforge.devices.profile_files import load_profile, shipped_profiles
from pocketforge.devices.profiles import Cluster, DeviceProfile

CLUSTERS = [
    pytest.param(profile, cluster, id=f"{profile.name}-{cluster.name}")
    for profile in map(load_profile, shipped_profiles())
    for cluster in profile.clusters
]


def read_cpuinfo(text: str) -> list[dict[str, str]]:
    lines = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    return [{key.strip(): value.strip() for key, _, value in core} for core in lines]


def read_list(text: str) -> list[int]:
    """A CPU list as the kernel writes it: 0, 0-3, 0-1,4."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


@pytest.mark.parametrize(("profile", "cluster"), CLUSTERS)
def test_a_tree_reads_back_as_its_profile(profile: DeviceProfile, cluster: Cluster, tmp_path: Path) -> None:
    write_system(profile, cluster, tmp_path)
    cores = read_cpuinfo((tmp_path / "proc" / "cpuinfo").read_text())
    assert [core["processor"] for core in cores] == [str(i) for i in range(cluster.count)]
    for core in cores:
        midr = (
            int(core["CPU implementer"], 16) << 24
            | int(core["CPU variant"], 16) << 20
            | 0xF << 16  # the architecture: by ID registers
            | int(core["CPU part"], 16) << 4
            | int(core["CPU revision"])
        )
        assert midr == cluster.midr
        assert sorted(core["Features"].split()) == sorted(profile.features)
    system = tmp_path / "sys" / "devices" / "system" / "cpu"
    for name in ("possible", "present", "online"):
        assert read_list((system / name).read_text()) == list(range(cluster.count))
    assert int((system / "kernel_max").read_text()) >= cluster.count - 1
    assert {p.name for p in system.glob("cpu*")} == {f"cpu{i}" for i in range(cluster.count)}
    for index in range(cluster.count):
        check_core(profile, cluster, system / f"cpu{index}", index)


def check_core(profile: DeviceProfile, cluster: Cluster, core: Path, index: int) -> None:
    everyone = list(range(cluster.count))
    assert int((core / "cpufreq" / "cpuinfo_max_freq").read_text()) == pytest.approx(cluster.clock_ghz * 1e6, abs=1)
    assert read_list((core / "topology" / "core_cpus_list").read_text()) == [index]
    assert read_list((core / "topology" / "package_cpus_list").read_text()) == everyone
    caches = {}
    for folder in sorted((core / "cache").iterdir()):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        assert size.endswith("K")
        caches[int(level), kind] = (int(size[:-1]) * 1024, read_list((folder / "shared_cpu_list").read_text()))
    wanted = {
        (1, "Data"): (cluster.l1d_bytes, [index]),
        (1, "Instruction"): (cluster.l1i_bytes, [index]),
        (2, "Unified"): (cluster.l2_bytes, everyone if cluster.l2_shared else [index]),
    }
    if profile.l3_bytes:
        wanted[3, "Unified"] = (profile.l3_bytes, everyone)
    assert caches == wanted


def test_only_one_cluster_is_shown() -> None:
    """With both, XNNPACK would choose a kernel by the host's CPU number; see fake_system's docstring."""
    profile = load_profile("pixel4")
    parts = {core["CPU part"] for core in read_cpuinfo(cpuinfo_text(profile, profile.cluster("little")))}
    assert parts == {"0x805"}


def test_cpuinfo_is_as_a_phone_prints_it() -> None:
    """The first core of a OnePlus 7T's (SM8150, as the Pixel 4), but for its number."""
    profile = load_profile("pixel4")
    assert cpuinfo_text(profile, profile.cluster("little")).split("\n\n")[0] == (
        "processor\t: 0\n"
        "BogoMIPS\t: 38.40\n"
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
        "asimddp\n"
        "CPU implementer\t: 0x51\n"
        "CPU architecture: 8\n"
        "CPU variant\t: 0xd\n"
        "CPU part\t: 0x805\n"
        "CPU revision\t: 14"
    )
