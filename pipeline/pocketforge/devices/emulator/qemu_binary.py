"""The qemu-aarch64 program: the user's own, or the one of a Debian package.

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

from pocketforge.devices.emulator.packages import OFFLINE, Packages
from pocketforge.devices.emulator.pinned import OLDEST_QEMU, QEMU_PACKAGES
from pocketforge.errors import DeviceUnavailable, ToolFailed, ToolMissing
from pocketforge.files import hash_file

VARIABLE = "POCKETFORGE_QEMU"
NAMES = ("qemu-aarch64-static", "qemu-aarch64")
_TIMEOUT_S = 20
_OLDEST = ".".join(map(str, OLDEST_QEMU))
_HINT = (
    f"install qemu's user mode (package qemu-user-static or qemu-user, {_OLDEST} or newer), or name a qemu-aarch64 "
    f"with {VARIABLE}=PATH; {OFFLINE}"
)


@dataclass(frozen=True, slots=True)
class Qemu:
    """A qemu-aarch64 that runs; version as it says it, without what the packager added."""

    path: Path
    version: str
    sha256: str
    size: int
    mtime_ns: int


class UnfitQemuError(Exception):
    """Why a program will not do."""


def parse_version(text: str) -> str:
    """`7.2.22` from what `qemu-aarch64 --version` prints. Raises UnfitQemuError when another program printed it."""
    found = re.match(r"qemu-aarch64 version (\d+(?:\.\d+)+)", text)
    if not found:
        first = text.strip().partition("\n")[0]
        raise UnfitQemuError(f"is not qemu-aarch64: --version prints {first!r}")
    return found.group(1)


def new_enough(version: str) -> bool:
    return tuple(int(n) for n in version.split(".")[:2]) >= OLDEST_QEMU


def examine(path: Path) -> Qemu:
    """Run a qemu for its version. Raises UnfitQemuError: not there, does not start, another program, too old."""
    try:
        found = path.stat()
    except OSError as error:
        raise UnfitQemuError(f"cannot be used: {error.strerror}") from None
    return _examine(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _examine(path: Path, size: int, mtime_ns: int) -> Qemu:
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
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        # Where a dynamically linked one lacks its libraries, the loader says which, here.
        raise UnfitQemuError(f"does not start: {lines[-1]}")
    version = parse_version(done.stdout)
    if not new_enough(version):
        raise UnfitQemuError(f"is version {version}; {_OLDEST} or newer is needed")
    return Qemu(path, version, hash_file(path), size, mtime_ns)


def chosen() -> Path | None:
    """What POCKETFORGE_QEMU names, if it is set."""
    value = os.environ.get(VARIABLE)
    return Path(value).expanduser().absolute() if value else None


def examine_chosen(path: Path) -> Qemu:
    """The qemu that POCKETFORGE_QEMU names: no other is taken in its place. Raises DeviceUnavailable."""
    try:
        return examine(path)
    except UnfitQemuError as error:
        raise DeviceUnavailable(
            f"{VARIABLE} names {path}, which {error}",
            f"name a qemu-aarch64 of version {_OLDEST} or newer, or unset {VARIABLE}",
        ) from None


def on_path() -> tuple[Qemu | None, list[str]]:
    """The first fit qemu on PATH, and why those before it were passed over."""
    passed_over: list[str] = []
    for name in NAMES:
        found = shutil.which(name)
        if found is None:
            continue
        path = Path(found).absolute()
        try:
            return examine(path), passed_over
        except UnfitQemuError as error:
            passed_over.append(f"{path} {error}")
    return None, passed_over


def from_packages(packages: Packages, folder: Path, passed_over: Sequence[str]) -> tuple[Qemu, Path]:
    """Unpack a Debian package's qemu into `folder`; returns it and the package.

    passed_over: why none on PATH will do, for the message. Raises DeviceUnavailable, ToolMissing.
    """
    reasons = list(passed_over) or ["none on PATH"]
    for package in QEMU_PACKAGES:
        try:
            (deb,) = packages.debs([package])
            unpacked = packages.folder("qemu")
            packages.unpack_deb(deb, unpacked)
        except ToolMissing as error:
            raise ToolMissing("no qemu-aarch64 could be had: " + "; ".join([*reasons, error.message]), _HINT) from None
        except (ToolFailed, DeviceUnavailable) as error:
            reasons.append(error.message)
            continue
        programs = [p for p in (unpacked / "usr" / "bin" / name for name in NAMES) if p.is_file()]
        if not programs:
            reasons.append(f"{deb.name} has none")
        for program in programs:
            target = folder / program.name
            shutil.copyfile(program, target)
            target.chmod(0o755)
            try:
                return examine(target), deb
            except UnfitQemuError as error:
                reasons.append(f"{program.name} of {deb.name} {error}")
                target.unlink()
    raise DeviceUnavailable("no qemu-aarch64 could be had:\n" + "\n".join(f"  {reason}" for reason in reasons), _HINT)
