"""Fetches a qemu that plays other x86 processors than this machine's: AVX2 without AVX-512 and VNNI, SSE 4.2.
Prints its path.

    python tests/tools/fetch_processors.py

No root, and nothing is installed: one program out of Debian's package, which the emulator's set-up has kept on most
machines. Made beside its place and renamed: whole or not there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT)]

NAMES = ("qemu-x86_64-static", "qemu-x86_64")
# The first whose own code generator has AVX2.
OLDEST = (7, 2)


def program() -> Path:
    """Where it is when this has run."""
    from pocketforge.folders import environments_dir

    return environments_dir() / "test-processors-1" / "qemu-x86_64"


def fault_of(qemu: Path) -> str:
    """Why a program is not a qemu that will do; nothing when it will."""
    try:
        done = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"{qemu} does not start: {error.strerror}"
    version = re.match(r"qemu-x86_64 version (\d+)\.(\d+)", done.stdout)
    if done.returncode or not version:
        return f"{qemu} is no qemu-x86_64: {(done.stderr or done.stdout).strip()[:200]}"
    if (int(version[1]), int(version[2])) < OLDEST:
        return f"{qemu} is version {version[1]}.{version[2]}, wanted 7.2 or newer"
    return ""


def candidates(work: Path) -> Iterator[Path]:
    """Programs to try, likeliest first: those on PATH, then those of Debian's packages. Raises PocketforgeError."""
    from pocketforge.devices.emulator import parts
    from pocketforge.devices.emulator.packages import Packages
    from pocketforge.devices.emulator.pinned import QEMU_PACKAGES

    yield from (Path(path) for path in map(shutil.which, NAMES) if path)
    # Folders of its own: the emulator's is the emulator's.
    packages = Packages(work / "kept", work / "scratch", lambda line: print(line, file=sys.stderr))
    for folder in (packages.kept, packages.scratch):
        folder.mkdir()
    for name in QEMU_PACKAGES:
        kept = sorted((parts.emulator_folder() / "downloads").glob(f"{name}_*.deb"))
        unpacked = work / name
        unpacked.mkdir()
        packages.unpack_deb((kept or packages.debs([name]))[0], unpacked)
        yield from (path for path in (unpacked / "usr" / "bin" / name for name in NAMES) if path.is_file())


def choose(work: Path) -> Path:
    """Raises LookupError: none will do, and why."""
    from pocketforge.errors import PocketforgeError

    faults = []
    try:
        for path in candidates(work):
            fault = fault_of(path)
            if not fault:
                return path
            faults.append(fault)
    except PocketforgeError as error:
        faults.append(error.message)
    raise LookupError("; ".join(faults))


def main() -> int:
    from filelock import FileLock

    target = program()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name("lock")), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        if not target.is_file() or fault_of(target):
            try:
                draft = Path(shutil.copy(choose(Path(scratch)), Path(scratch, "draft")))
            except LookupError as error:
                print(f"fetch_processors: no qemu-x86_64 could be had: {error}", file=sys.stderr)
                return 1
            draft.chmod(0o755)
            os.replace(draft, target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
