"""What an x86 processor says it has, by the names of /proc/cpuinfo: this machine's, and one that qemu plays.

A qemu that cannot give a feature leaves it out with a warning, so what a `-cpu` name means is asked, never assumed.
"""

from __future__ import annotations

import functools
import os
import platform
import struct
import subprocess
import tempfile
from pathlib import Path

from pocketforge.devices.kernels import features_here
from pocketforge.errors import DeviceTimeout, DeviceUnavailable

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
_TIMEOUT_S = 60.0


def here() -> frozenset[str] | None:
    """Of NAMES, what this machine's processor has; None where it is no x86-64 under Linux."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    found = features_here()
    return frozenset(NAMES) & frozenset(found) if found else None


def under(qemu: Path, cpu: str) -> frozenset[str] | None:
    """Of NAMES, what a program under `qemu -cpu CPU` sees; None where this qemu does not take the name.

    Raises DeviceUnavailable, DeviceTimeout.
    """
    try:
        found = qemu.stat()
    except OSError as error:
        raise DeviceUnavailable(f"cannot run {qemu}: {error.strerror}") from None
    return _under(qemu, cpu, found.st_mtime_ns, found.st_size)


@functools.cache
def _under(qemu: Path, cpu: str, *_identity: int) -> frozenset[str] | None:
    with tempfile.TemporaryDirectory(prefix="pocketforge-probe-") as folder:
        program = Path(folder) / "probe"
        program.write_bytes(_elf(_CODE))
        program.chmod(0o755)
        argv = [os.fspath(qemu), "-cpu", cpu, os.fspath(program)]
        try:
            done = subprocess.run(
                argv, capture_output=True, check=False, timeout=_TIMEOUT_S, env=without_qemu_settings()
            )
        except OSError as error:
            raise DeviceUnavailable(f"cannot run {qemu}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise DeviceTimeout(f"{' '.join(argv)} did not end within {_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0 or len(done.stdout) != 4 * _WORDS:
        return None
    return names_of(struct.unpack(f"<{_WORDS}I", done.stdout))


def names_of(words: tuple[int, ...]) -> frozenset[str]:
    """Features of what the program wrote."""
    return frozenset(name for name, (word, bit) in _BITS.items() if words[word] >> bit & 1)


def without_qemu_settings() -> dict[str, str]:
    """The environment without QEMU_CPU and the like, which would change what is emulated."""
    return {name: value for name, value in os.environ.items() if not name.startswith("QEMU_")}


def _elf(code: bytes) -> bytes:
    """The smallest static x86-64 program: a header, one loadable segment, the code."""
    base, header, segment = 0x400000, 64, 56
    start, size = header + segment, header + segment + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64-bit, little-endian
    return (
        identity
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, header, 0, 0, header, segment, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
        + code
    )
