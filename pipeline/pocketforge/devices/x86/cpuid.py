"""What an x86 processor says it has, by the names of /proc/cpuinfo: this machine's, and one that qemu plays.

A qemu that cannot give a feature leaves it out with a warning, so what a `-cpu` name means is asked, never assumed.
"""

from __future__ import annotations

import functools
import platform
import struct
from pathlib import Path

from pocketforge.devices.kernels import features_here
from pocketforge.devices.tiny_programs import X86_64, run_under
from pocketforge.errors import DeviceUnavailable

# x86-64: CPUID 1, 7.0 and (where leaf 7 has it) 7.1; write(1, ECX of 1, EDX of 1, EBX ECX EDX of 7.0, EAX of 7.1).
_CODE = bytes.fromhex(
    "4883ec40" "b801000000" "31c9" "0fa2" "890c24" "89542404"
    "b807000000" "31c9" "0fa2" "895c2408" "894c240c" "89542410"
    "4189c0" "31c0" "4585c0" "740c" "b807000000" "b901000000" "0fa2" "89442414"
    "bf01000000" "4889e6" "ba18000000" "b801000000" "0f05"
    "31ff" "b8e7000000" "0f05"  # exit_group(0)
)  # fmt: skip
_WORDS = 6
# Name → (word of the answer, bit). Those by which runtimes choose kernels. Source: Linux, asm/cpufeatures.h.
_BITS = {
    "pni": (0, 0), "ssse3": (0, 9), "fma": (0, 12), "sse4_1": (0, 19), "sse4_2": (0, 20), "avx": (0, 28),
    "f16c": (0, 29), "sse2": (1, 26), "avx2": (2, 5), "avx512f": (2, 16), "avx512dq": (2, 17), "avx512bw": (2, 30),
    "avx512vl": (2, 31), "avx512_vnni": (3, 11), "amx_tile": (4, 24), "amx_int8": (4, 25), "avx_vnni": (5, 4),
    "avx512_bf16": (5, 5),
}  # fmt: skip
NAMES = tuple(_BITS)


def here() -> frozenset[str] | None:
    """Of NAMES, what this machine's processor has; None where it is no x86-64 under Linux."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    names = features_here()
    return frozenset(NAMES) & frozenset(names) if names else None


def under(qemu: Path, cpu: str) -> frozenset[str] | None:
    """Of NAMES, what a program under `qemu -cpu CPU` sees; None where this qemu does not take the name.

    Raises DeviceUnavailable, DeviceTimeout.
    """
    try:
        status = qemu.stat()
    except OSError as error:
        raise DeviceUnavailable(f"cannot run {qemu}: {error.strerror}") from None
    return _under(qemu, cpu, status.st_mtime_ns, status.st_size)


@functools.cache
def _under(qemu: Path, cpu: str, *_identity: int) -> frozenset[str] | None:
    done = run_under(qemu, cpu, _CODE, X86_64)
    if done.returncode != 0 or len(done.stdout) != 4 * _WORDS:
        return None
    return names_of(struct.unpack(f"<{_WORDS}I", done.stdout))


def names_of(words: tuple[int, ...]) -> frozenset[str]:
    """Features of what the program wrote."""
    return frozenset(name for name, (word, bit) in _BITS.items() if words[word] >> bit & 1)
