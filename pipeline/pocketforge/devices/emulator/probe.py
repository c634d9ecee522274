"""What a qemu-aarch64 gives under a `-cpu` option, found by running a program under it that tells.

`qemu -cpu help` lists names only, and what a name means differs between versions, so nothing here is by version.
"""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.cpu_features import names_of
from pocketforge.errors import DeviceTimeout, DeviceUnavailable

# A64: find the auxiliary vector above argv and the environment on the stack, write its entries (16 bytes each, the
# last of type 0) to stdout, then MIDR_EL1 (8 bytes), which Linux and qemu-user let programs read.
_CODE = bytes.fromhex(
    "e1030091" "228440f8" "210c028b" "21200091" "228440f8" "e2ffffb5"  # x1 = the vector
    "200080d2" "020280d2" "080880d2" "010000d4" "230441f8" "63ffffb5"  # write(1, x1, 16); x1 += 16; while type != 0
    "040038d5" "e40f1ff8" "e1030091" "200080d2" "020180d2" "080880d2" "010000d4"  # push MIDR_EL1; write(1, sp, 8)
    "000080d2" "c80b80d2" "010000d4"  # exit_group(0)
)  # fmt: skip
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Feature names as Linux gives them to the program, and the MIDR_EL1 that it reads."""

    features: frozenset[str]
    midr: int


def cpu_models(qemu: Path) -> tuple[str, ...]:
    """The names that `-cpu` takes. Raises DeviceUnavailable when this is no qemu-aarch64."""
    return _cpu_models(qemu, *_identity(qemu))


@functools.cache
def _cpu_models(qemu: Path, *_identity: int) -> tuple[str, ...]:
    done = _run([str(qemu), "-cpu", "help"])
    models = parse_help(done.stdout.decode(errors="replace"))
    if not models:  # qemu 7.2 ends this with exit code 1
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise DeviceUnavailable(
            f"{qemu} does not list its CPUs: {said[-1] if said else 'it says nothing'}",
            "it must be a qemu-aarch64 (user mode); pocketforge device setup emulator",
        )
    return models


def _identity(qemu: Path) -> tuple[int, int]:
    """Another qemu at the same path gives other answers."""
    try:
        found = qemu.stat()
    except OSError as error:
        raise DeviceUnavailable(f"cannot run {qemu}: {error.strerror}", "pocketforge device setup emulator") from None
    return found.st_mtime_ns, found.st_size


def parse_help(text: str) -> tuple[str, ...]:
    """CPU names from the output of `qemu-aarch64 -cpu help`: a heading, then an indented name a line."""
    heading, _, names = text.partition(":\n")
    if "CPU" not in heading:
        return ()
    return tuple(line.split()[0] for line in names.splitlines() if line[:1].isspace() and line.strip())


def examine(qemu: Path, cpu: str) -> Answer | None:
    """What a program under `qemu -cpu CPU` sees; None where this qemu does not take the option."""
    return _examine(qemu, cpu, *_identity(qemu))


@functools.cache
def _examine(qemu: Path, cpu: str, *_identity: int) -> Answer | None:
    with tempfile.TemporaryDirectory(prefix="pocketforge-probe-") as folder:
        program = Path(folder) / "probe"
        program.write_bytes(_elf(_CODE))
        program.chmod(0o755)
        done = _run([str(qemu), "-cpu", cpu, str(program)])
    size = len(done.stdout) - 8
    if done.returncode != 0 or size <= 0 or size % 16:
        return None
    vector = dict(struct.iter_unpack("<QQ", done.stdout[:size]))
    (midr,) = struct.unpack("<Q", done.stdout[size:])
    return Answer(frozenset(names_of(vector.get(_AT_HWCAP, 0), vector.get(_AT_HWCAP2, 0))), midr)


def _run(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
    # QEMU_CPU and the like in the user's environment would change the answer.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QEMU_")}
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=_TIMEOUT_S, env=environment)
    except OSError as error:
        raise DeviceUnavailable(
            f"cannot run {argv[0]}: {error.strerror}", "pocketforge device setup emulator"
        ) from None
    except subprocess.TimeoutExpired:
        raise DeviceTimeout(f"{' '.join(argv)} did not end within {_TIMEOUT_S:.0f} s") from None


def _elf(code: bytes) -> bytes:
    """The smallest static AArch64 program: a header, one loadable segment, the code."""
    base, header, segment = 0x400000, 64, 56
    start, size = header + segment, header + segment + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64-bit, little-endian
    return (
        identity
        + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + start, header, 0, 0, header, segment, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
        + code
    )
