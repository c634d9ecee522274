"""What a qemu-aarch64 gives under a `-cpu` option, found by running a program under it that tells.

`qemu -cpu help` lists names only, and what a name means differs between versions, so nothing here is by version.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.cpu_features import names_of
from pocketforge.devices.tiny_programs import AARCH64, run, run_under
from pocketforge.errors import DeviceUnavailable

# A64: find the auxiliary vector above argv and the environment on the stack, write its entries (16 bytes each, the
# last of type 0) to stdout, then MIDR_EL1 (8 bytes), which Linux and qemu-user let programs read.
_CODE = bytes.fromhex(
    "e1030091" "228440f8" "210c028b" "21200091" "228440f8" "e2ffffb5"  # x1 = the vector
    "200080d2" "020280d2" "080880d2" "010000d4" "230441f8" "63ffffb5"  # write(1, x1, 16); x1 += 16; while type != 0
    "040038d5" "e40f1ff8" "e1030091" "200080d2" "020180d2" "080880d2" "010000d4"  # push MIDR_EL1; write(1, sp, 8)
    "000080d2" "c80b80d2" "010000d4"  # exit_group(0)
)  # fmt: skip
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_SETUP = "pocketforge device setup emulator"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tiny program sees under a -cpu.

    Attributes:
        features: Names as Linux gives them to the program.
        midr: The MIDR_EL1 that it reads.
    """

    features: frozenset[str]
    midr: int


def cpu_models(qemu: Path) -> tuple[str, ...]:
    """The names that `-cpu` takes. Raises DeviceUnavailable when this is no qemu-aarch64."""
    return _cpu_models(qemu, *_identity(qemu))


@functools.cache
def _cpu_models(qemu: Path, *_identity: int) -> tuple[str, ...]:
    done = run([str(qemu), "-cpu", "help"], hint=_SETUP)
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
        raise DeviceUnavailable(f"cannot run {qemu}: {error.strerror}", _SETUP) from None
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
    done = run_under(qemu, cpu, _CODE, AARCH64, hint=_SETUP)
    size = len(done.stdout) - 8
    if done.returncode != 0 or size <= 0 or size % 16:
        return None
    vector = dict(struct.iter_unpack("<QQ", done.stdout[:size]))
    (midr,) = struct.unpack("<Q", done.stdout[size:])
    return Answer(frozenset(names_of(vector.get(_AT_HWCAP, 0), vector.get(_AT_HWCAP2, 0))), midr)
