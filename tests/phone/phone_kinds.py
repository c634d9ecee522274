"""Kinds of test phones: properties, processor and Android version as such phones have them.

Clocks and core types are the makers' published ones. Capacities, serial numbers and fingerprints only look like true
ones: nothing may be concluded from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

FEATURES = (
    "shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "apex", "abb", "fixed_push_symlink_timestamp",
    "abb_exec", "remount_shell", "track_app", "sendrecv_v2", "sendrecv_v2_brotli", "sendrecv_v2_lz4",
    "sendrecv_v2_zstd", "sendrecv_v2_dry_run_send",
)  # fmt: skip
# adbd of Android 6 and older: no exit codes, stderr in stdout.
OLD_FEATURES = ("cmd",)

SDKS = {"10": 29, "11": 30, "12": 31, "13": 33, "14": 34, "15": 35, "16": 36}
_ARM, _QUALCOMM = 0x41, 0x51
_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V9 = f"{_V82} sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 i8mm bf16 bti"


@dataclass(frozen=True)
class Cluster:
    """Equal cores that share a clock. capacity: the kernel's cpu_capacity, 1024 the fastest; kHz, lowest first."""

    cores: int
    implementer: int
    part: int
    variant: int
    revision: int
    capacity: int
    frequencies_khz: tuple[int, ...]

    def core(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("implementer", "part", "variant", "revision", "capacity")}


@dataclass(frozen=True)
class PhoneKind:
    """A phone as it came. android: its release, which gives the sdk and the shapes of Android's outputs."""

    manufacturer: str
    model: str
    name: str
    device: str
    android: str
    platform: str
    soc_model: str
    soc_manufacturer: str
    fingerprint: str
    kernel: str
    ram_kib: int
    clusters: tuple[Cluster, ...]
    governors: tuple[str, ...]
    cpu_features: str = _V82
    hardware: str = ""
    abis: tuple[str, ...] = ("arm64-v8a", "armeabi-v7a", "armeabi")
    features: tuple[str, ...] = FEATURES
    # Folders and files of /sys that the shell user may not look into.
    locked: tuple[str, ...] = ()
    more_properties: dict[str, str] = field(default_factory=dict)

    @property
    def sdk(self) -> int:
        return SDKS[self.android]

    @property
    def only_32bit(self) -> bool:
        return "arm64-v8a" not in self.abis

    def with_android(self, android: str) -> PhoneKind:
        was = f":{self.android}/"
        return replace(self, android=android, fingerprint=self.fingerprint.replace(was, f":{android}/"))

    def with_cpus(self, cpus: int | None) -> PhoneKind:
        """The whole phone (None), or cores taken from its clusters in turn, the lowest and the highest first."""
        if cpus is None or cpus == sum(cluster.cores for cluster in self.clusters):
            return self
        lowest, *between, highest = self.clusters if len(self.clusters) > 1 else (self.clusters[0], self.clusters[0])
        counts = dict.fromkeys((id(c) for c in self.clusters), 0)
        order = [lowest, highest, *between, *(c for c in self.clusters for _ in range(c.cores))]
        for cluster in order:
            if sum(counts.values()) < cpus and counts[id(cluster)] < cluster.cores:
                counts[id(cluster)] += 1
        if sum(counts.values()) != cpus:
            raise ValueError(f"{self.model} has no {cpus} cores to take")
        kept = tuple(replace(c, cores=counts[id(c)]) for c in self.clusters if counts[id(c)])
        return replace(self, clusters=kept)

    def properties(self) -> dict[str, str]:
        soc = {"ro.soc.manufacturer": self.soc_manufacturer, "ro.soc.model": self.soc_model} if self.sdk >= 31 else {}
        wide = {"ro.product.cpu.abilist64": "arm64-v8a"} if not self.only_32bit else {"ro.product.cpu.abilist64": ""}
        return {
            "ro.product.manufacturer": self.manufacturer,
            "ro.product.brand": self.manufacturer.lower(),
            "ro.product.model": self.model,
            "ro.product.name": self.name,
            "ro.product.device": self.device,
            "ro.product.board": self.device,
            "ro.board.platform": self.platform,
            "ro.hardware": self.hardware or self.device,
            "ro.product.cpu.abi": self.abis[0],
            "ro.product.cpu.abilist": ",".join(self.abis),
            "ro.product.cpu.abilist32": ",".join(abi for abi in self.abis if abi != "arm64-v8a"),
            **wide,
            **soc,
            "ro.build.version.release": self.android,
            "ro.build.version.sdk": str(self.sdk),
            "ro.build.version.security_patch": "2025-06-05",
            "ro.build.fingerprint": self.fingerprint,
            "ro.build.type": "user",
            "ro.build.tags": "release-keys",
            "ro.debuggable": "0",
            "ro.secure": "1",
            "sys.boot_completed": "1",
            "persist.sys.timezone": "Europe/London",
            **self.more_properties,
        }


_PIXEL4 = PhoneKind(
    manufacturer="Google", model="Pixel 4", name="flame", device="flame", android="10", platform="msmnile",
    soc_model="SM8150", soc_manufacturer="Qualcomm", hardware="flame",
    fingerprint="google/flame/flame:10/QQ3A.200805.001/6578210:user/release-keys",
    kernel="4.14.117-g4f8d0d0f4f8d-ab6571310", ram_kib=5_691_440,
    governors=("conservative", "powersave", "performance", "schedutil"),
    clusters=(
        Cluster(4, _QUALCOMM, 0x805, 0xD, 14, 241, (300000, 576000, 1036800, 1401600, 1785600)),
        Cluster(3, _QUALCOMM, 0x804, 0xD, 14, 871, (710400, 1056000, 1612800, 2131200, 2419200)),
        Cluster(1, _QUALCOMM, 0x804, 0xD, 14, 1024, (825600, 1286400, 1843200, 2419200, 2841600)),
    ),
)  # fmt: skip
_PIXEL8 = PhoneKind(
    manufacturer="Google", model="Pixel 8", name="shiba", device="shiba", android="16", platform="zuma",
    soc_model="Tensor G3", soc_manufacturer="Google", hardware="shiba", cpu_features=_V9,
    fingerprint="google/shiba/shiba:16/BP2A.250605.031/13578606:user/release-keys",
    kernel="6.1.124-android14-11-g8d713f9e8e7b-ab13202960", ram_kib=7_679_044,
    governors=("conservative", "powersave", "performance", "schedutil", "sched_pixel"),
    clusters=(
        Cluster(4, _ARM, 0xD46, 1, 1, 180, (324000, 610000, 955000, 1425000, 1704000)),
        Cluster(4, _ARM, 0xD4D, 1, 0, 640, (402000, 578000, 1164000, 1836000, 2367000)),
        Cluster(1, _ARM, 0xD4E, 1, 0, 1024, (500000, 1098000, 1800000, 2363000, 2914000)),
    ),
)  # fmt: skip
_GALAXY_S22 = PhoneKind(
    manufacturer="samsung", model="SM-S901U", name="r0qsqw", device="r0q", android="12", platform="taro",
    soc_model="SM8450", soc_manufacturer="QTI", hardware="qcom", cpu_features=_V9,
    fingerprint="samsung/r0qsqw/r0q:12/SP1A.210812.016/S901USQU1AVA7:user/release-keys",
    kernel="5.10.43-android12-9-23540680-abS901USQU1AVA7", ram_kib=7_414_548,
    governors=("conservative", "powersave", "performance", "schedutil", "walt"),
    clusters=(
        Cluster(4, _ARM, 0xD46, 0, 2, 325, (307200, 614400, 1075200, 1478400, 1785600)),
        Cluster(3, _ARM, 0xD47, 2, 0, 854, (633600, 1113600, 1651200, 2112000, 2496000)),
        Cluster(1, _ARM, 0xD48, 2, 0, 1024, (806400, 1324800, 1843200, 2476800, 2995200)),
    ),
)  # fmt: skip
_OLD_32BIT = PhoneKind(
    manufacturer="HMD Global", model="Nokia 1 Plus", name="Antares_00WW", device="ANTMAN", android="10",
    platform="mt6739", soc_model="MT6739", soc_manufacturer="Mediatek", hardware="mt6739", cpu_features=_V8,
    fingerprint="Nokia/Antares_00WW/ANTMAN:10/QP1A.190711.020/00WW_3_210:user/release-keys",
    kernel="4.4.146", ram_kib=936_752, abis=("armeabi-v7a", "armeabi"),
    governors=("ondemand", "performance", "schedutil"),
    clusters=(Cluster(4, _ARM, 0xD03, 0, 4, 1024, (299000, 507000, 819000, 1188000, 1495000)),),
)  # fmt: skip

KINDS = {
    "pixel4": _PIXEL4,
    "pixel4_android13": _PIXEL4.with_android("13"),
    "pixel8": _PIXEL8,
    "galaxy_s22": _GALAXY_S22,
    "galaxy_s22_android14": _GALAXY_S22.with_android("14"),
    "old_32bit": _OLD_32BIT,
    "locked": replace(
        _GALAXY_S22.with_android("14"),
        locked=(
            "/sys/devices/system/cpu/cpufreq",
            "/sys/devices/system/cpu/*/cpu_capacity",
            "/sys/devices/system/cpu/*/regs",
            "/sys/class/thermal",
        ),
    ),
}
