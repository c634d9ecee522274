"""The smallest static 64-bit programs, run under a qemu to be told what a `-cpu` name gives there."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

from pocketforge.errors import DeviceTimeout, DeviceUnavailable, describe_exit

# ELF's numbers of machines. Source: the System V ABI's e_machine.
X86_64, AARCH64 = 62, 183
_TIMEOUT_S = 60.0


def run_under(qemu: Path, cpu: str, code: bytes, machine: int, *, hint: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run machine code (position-independent, it ends itself) under `qemu -cpu CPU`; as `run`."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-probe-") as folder:
        program = Path(folder) / "probe"
        program.write_bytes(_elf(code, machine))
        program.chmod(0o755)
        return run([os.fspath(qemu), "-cpu", cpu, os.fspath(program)], hint=hint)


def run(argv: list[str], *, hint: str = "") -> subprocess.CompletedProcess[bytes]:
    """What a qemu wrote and how it ended. Raises DeviceUnavailable, with `hint`, where it cannot run; DeviceTimeout."""
    # QEMU_CPU and the like in the user's environment would change the answer.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QEMU_")}
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=_TIMEOUT_S, env=environment)
    except OSError as error:
        raise DeviceUnavailable(f"cannot run {argv[0]}: {error.strerror}", hint) from None
    except subprocess.TimeoutExpired:
        raise DeviceTimeout(f"{' '.join(argv)} did not end within {_TIMEOUT_S:.0f} s") from None
    # An instruction that the emulated processor lacks is an answer; any other signal is qemu's own trouble.
    if done.returncode < 0 and done.returncode != -signal.SIGILL:
        raise DeviceUnavailable(f"{argv[0]} ended with {describe_exit(done.returncode)}", hint)
    return done


def _elf(code: bytes, machine: int) -> bytes:
    """A header, one loadable segment, the code."""
    base, header, segment = 0x400000, 64, 56
    start, size = header + segment, header + segment + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64-bit, little-endian
    return (
        identity
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + start, header, 0, 0, header, segment, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
        + code
    )
