"""The qemu programs of user mode, qemu-aarch64 and qemu-x86_64: the user's own, or those of a Debian package.

qemu's user mode runs one program of another processor; it needs neither root nor a system image.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketforge.devices.emulator.packages import OFFLINE, Packages
from pocketforge.devices.emulator.pinned import OLDEST_QEMU, QEMU_PACKAGES
from pocketforge.errors import DeviceUnavailable, ToolFailed, ToolMissing, describe_exit
from pocketforge.files import hash_file

# By the processor that is played. ARM's came first and has the short name.
Guest = Literal["aarch64", "x86_64"]
VARIABLES: dict[Guest, str] = {"aarch64": "POCKETFORGE_QEMU", "x86_64": "POCKETFORGE_QEMU_X86_64"}
VARIABLE = VARIABLES["aarch64"]
_TIMEOUT_S = 20
_OLDEST = ".".join(map(str, OLDEST_QEMU))


@dataclass(frozen=True, slots=True)
class Qemu:
    """A qemu that runs.

    Attributes:
        path: The program.
        version: As it says it, without what the packager added.
        sha256: Of the program.
        size: In bytes.
        mtime_ns: When it was changed last.
    """

    path: Path
    version: str
    sha256: str
    size: int
    mtime_ns: int


class UnfitQemuError(Exception):
    """Why a program will not do."""


def parse_version(text: str, guest: Guest = "aarch64") -> str:
    """`7.2.22` from what `qemu-aarch64 --version` prints. Raises UnfitQemuError when another program printed it."""
    found = re.match(rf"qemu-{guest} version (\d+(?:\.\d+)+)", text)
    if not found:
        first = text.strip().partition("\n")[0]
        raise UnfitQemuError(f"is not qemu-{guest}: --version prints {first!r}")
    return found.group(1)


def new_enough(version: str) -> bool:
    return tuple(int(n) for n in version.split(".")[:2]) >= OLDEST_QEMU


def examine(path: Path, guest: Guest = "aarch64") -> Qemu:
    """Run a qemu for its version. Raises UnfitQemuError: not there, does not start, another program, too old."""
    try:
        found = path.stat()
    except OSError as error:
        raise UnfitQemuError(f"cannot be used: {error.strerror}") from None
    return _examine(path, guest, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _examine(path: Path, guest: Guest, size: int, mtime_ns: int) -> Qemu:
    try:
        done = subprocess.run(
            [os.fspath(path), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise UnfitQemuError(f"does not start: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UnfitQemuError(f"did not say its version in {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() if done.returncode > 0 else []
        # Where a dynamically linked one lacks its libraries, the loader says which, here.
        raise UnfitQemuError(f"does not start: {lines[-1] if lines else describe_exit(done.returncode)}")
    version = parse_version(done.stdout, guest)
    if not new_enough(version):
        raise UnfitQemuError(f"is version {version}; {_OLDEST} or newer is needed")
    return Qemu(path, version, hash_file(path), size, mtime_ns)


def chosen(guest: Guest = "aarch64") -> Path | None:
    """What POCKETFORGE_QEMU (or its x86_64 namesake) names, if it is set."""
    value = os.environ.get(VARIABLES[guest])
    return Path(value).expanduser().absolute() if value else None


def examine_chosen(path: Path, guest: Guest = "aarch64") -> Qemu:
    """The qemu that `chosen` names: no other is taken in its place. Raises DeviceUnavailable."""
    try:
        return examine(path, guest)
    except UnfitQemuError as error:
        raise DeviceUnavailable(
            f"{VARIABLES[guest]} names {path}, which {error}",
            f"name a qemu-{guest} of version {_OLDEST} or newer, or unset {VARIABLES[guest]}",
        ) from None


def names_of(guest: Guest) -> tuple[str, str]:
    """What the program is called: linked statically, or not."""
    return f"qemu-{guest}-static", f"qemu-{guest}"


def on_path(guest: Guest = "aarch64") -> tuple[Qemu | None, list[str]]:
    """The first fit qemu on PATH, and why those before it were passed over."""
    passed_over: list[str] = []
    for name in names_of(guest):
        found = shutil.which(name)
        if found is None:
            continue
        path = Path(found).absolute()
        try:
            return examine(path, guest), passed_over
        except UnfitQemuError as error:
            passed_over.append(f"{path} {error}")
    return None, passed_over


def from_packages(
    packages: Packages, folder: Path, passed_over: Sequence[str], guest: Guest = "aarch64"
) -> tuple[Qemu, Path]:
    """Unpack a Debian package's qemu into `folder`; returns it and the package.

    passed_over: why none on PATH will do, for the message. Raises DeviceUnavailable, ToolMissing.
    """
    reasons = list(passed_over) or ["none on PATH"]
    nothing = f"no qemu-{guest} could be had:"
    hint = (
        f"install qemu's user mode (package qemu-user-static or qemu-user, {_OLDEST} or newer), or name a qemu-{guest} "
        f"with {VARIABLES[guest]}=PATH; {OFFLINE}"
    )
    for package in QEMU_PACKAGES:
        try:
            (deb,) = packages.debs([package])
            unpacked = packages.folder("qemu")
            packages.unpack_deb(deb, unpacked)
        except ToolMissing as error:
            raise ToolMissing(f"{nothing} " + "; ".join([*reasons, error.message]), hint) from None
        except (ToolFailed, DeviceUnavailable) as error:
            reasons.append(error.message)
            continue
        programs = [p for p in (unpacked / "usr" / "bin" / name for name in names_of(guest)) if p.is_file()]
        if not programs:
            reasons.append(f"{deb.name} has none")
        for program in programs:
            target = folder / program.name
            shutil.copyfile(program, target)
            target.chmod(0o755)
            try:
                return examine(target, guest), deb
            except UnfitQemuError as error:
                reasons.append(f"{program.name} of {deb.name} {error}")
                target.unlink()
    raise DeviceUnavailable("\n".join([nothing, *(f"  {reason}" for reason in reasons)]), hint)
