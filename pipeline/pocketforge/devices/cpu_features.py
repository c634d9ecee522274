"""The names that Linux gives to CPU features on arm64, and the bits by which a program is told of them.

Source: Linux, arch/arm64/include/uapi/asm/hwcap.h (bits) and arch/arm64/kernel/cpuinfo.c (names). Stable ABI.
"""

from __future__ import annotations

_HWCAP = (
    "fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "cpuid",
    "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp", "sha512", "sve", "asimdfhm",
    "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg",
)  # fmt: skip
_HWCAP2 = (
    "dcpodp", "sve2", "sveaes", "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2", "frint", "svei8mm",
    "svef32mm", "svef64mm", "svebf16", "i8mm", "bf16", "dgh", "rng", "bti", "mte", "ecv", "afp", "rpres", "mte3",
    "sme", "smei16i64", "smef64f64", "smei8i32", "smef16f32", "smeb16f32", "smef32f32", "smefa64", "wfxt", "ebf16",
    "sveebf16", "cssc", "rprfm", "sve2p1", "sme2", "sme2p1", "smei16i32", "smebi32i32", "smeb16b16", "smef16f16",
    "mops", "hbc", "sveb16b16", "lrcpc3", "lse128",
)  # fmt: skip

NAMES = _HWCAP + _HWCAP2


def names_of(hwcap: int, hwcap2: int) -> tuple[str, ...]:
    """Feature names of AT_HWCAP and AT_HWCAP2, in /proc/cpuinfo's order."""
    return tuple(
        name for bits, names in ((hwcap, _HWCAP), (hwcap2, _HWCAP2)) for i, name in enumerate(names) if bits >> i & 1
    )
