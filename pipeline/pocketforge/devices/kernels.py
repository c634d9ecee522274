"""Which kernels a file was judged on, in a word: the widest instructions by which runtimes choose them.

A runtime's int8 kernels differ from one instruction set to the next, also in what they compute: uint8 × int8 sums
saturate in ONNX Runtime on AVX2 and are exact with VNNI. So a verdict is of the instruction set that it came from.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Collection
from pathlib import Path

# Feature, by the names of /proc/cpuinfo → the word; the first that a processor has decides.
_WORDS = (
    ("amx_int8", "AMX"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
    ("avx", "AVX"),
    ("sse4_2", "SSE4"),
    ("sse2", "SSE2"),
    ("i8mm", "Arm i8mm"),
    ("asimddp", "Arm dot product"),
    ("asimd", "Arm NEON"),
)
UNKNOWN = "unknown"


def kernels_of(features: Collection[str]) -> str:
    """The word for a processor with these features; `unknown` when none of them is known."""
    return next((word for name, word in _WORDS if name in features), UNKNOWN)


@functools.cache
def features_here() -> frozenset[str]:
    """What /proc/cpuinfo says this machine's processor has; nothing where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in lines)
    return frozenset(next((words.split() for name, _, words in named if name.strip() in ("flags", "Features")), ()))


def kernels_here() -> str:
    """Those of this machine; its architecture's name where it does not say its features."""
    kernels = kernels_of(features_here())
    return kernels if kernels != UNKNOWN else platform.machine() or UNKNOWN
