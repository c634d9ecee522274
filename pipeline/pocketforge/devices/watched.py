"""Waiting for a program with a limit on its time and memory, and ending it whatever happens.

Peak memory is watched from here, every 50 ms: a limit on address space (RLIMIT_AS) would hit what qemu reserves for a
program, terabytes that it never touches. So a program may pass its limit for that long, and is then killed.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from pocketforge.errors import DeviceError, DeviceTimeout

POLL_S = 0.05
_MIB = 1024 * 1024


def wait(process: subprocess.Popen[bytes], what: str, where: str, *, timeout_s: float, limit_bytes: int) -> int:
    """Wait for the process to end, or kill it; its peak memory as last seen, in bytes. No process is left on any error.

    limit_bytes: 0 for none. Raises DeviceTimeout, DeviceError (too much memory).
    """
    try:
        return _watch(process, what, where, timeout_s, limit_bytes)
    finally:
        _end(process)


def _watch(process: subprocess.Popen[bytes], what: str, where: str, timeout_s: float, limit_bytes: int) -> int:
    deadline = time.monotonic() + timeout_s
    peak_bytes = 0
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise DeviceTimeout(
                f"{what} was not done in {timeout_s:.0f} s on {where}",
                "use fewer samples, a smaller model, or a longer time limit",
            )
        try:
            process.wait(min(POLL_S, left_s))
            return peak_bytes
        except subprocess.TimeoutExpired:
            peak_bytes = max(peak_bytes, _peak_rss_bytes(process.pid))
        if limit_bytes and peak_bytes > limit_bytes:
            raise too_much(what, limit_bytes, peak_bytes)


def too_much(what: str, limit_bytes: int, found_bytes: int) -> DeviceError:
    """The error of a program that passed its limit."""
    return DeviceError(
        f"{what} needs more memory than it may use: wanted at most {limit_bytes / _MIB:.0f} MiB, "
        f"found {found_bytes / _MIB:.0f} MiB (of the emulator and the program in it)",
        "use a smaller model, or allow more memory",
    )


def _peak_rss_bytes(pid: int) -> int:
    """VmHWM. The program runs inside qemu's process, and starts no others."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it if it still runs, and wait. It starts no others."""
    if process.poll() is None:
        process.kill()
        process.wait()
