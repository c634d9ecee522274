"""The emulator as it is set up here: where its parts are, that they are whole, and a short name for them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import android_bench
from pocketforge.devices.emulator import manifest, pinned, qemu_binary
from pocketforge.devices.emulator.manifest import Part, digest_of
from pocketforge.errors import DeviceUnavailable, PocketforgeError, ToolMissing
from pocketforge.files import hash_file
from pocketforge.folders import environments_dir
from pocketforge.version import install

FORMAT = 1
SETUP = "pocketforge device setup emulator"
# What reads instructions and libraries; light, but needed by nothing else.
PACKAGES = ("capstone", "pyelftools")

QEMU, LIBRARIES, RUNNERS, READER = "qemu", "arm64 libraries", "runners", "log reader"
# Where a part came from that is the user's: it may change under us.
OWN = "the user's own"
ALL = (QEMU, *pinned.RUNTIMES, LIBRARIES, RUNNERS, READER)

# The sources of what is compiled here, files and folders: the part is stale when they change.
_HERE = Path(__file__).parent
_BUILT = {
    RUNNERS: (_HERE / "runners.py", Path(android_bench.__file__).parent / "runner"),
    READER: (_HERE / "reader.py", _HERE / "native"),
}


@dataclass(frozen=True, slots=True)
class Emulator:
    """What an emulated run needs.

    Attributes:
        qemu: The program.
        qemu_version: As it says it.
        sysroot: Holds lib/ with the arm64 loader and C and C++ libraries.
        runners: Runtime → arm64 program.
        libraries: Runtime → the library that its runner loads, its parts beside it.
        reader: The host's program that reads qemu's log.
        versions: What and which, for reports.
    """

    qemu: Path
    qemu_version: str
    sysroot: Path
    runners: Mapping[str, Path]
    libraries: Mapping[str, Path]
    reader: Path
    versions: Mapping[str, str]


def emulator_folder() -> Path:
    return environments_dir() / f"emulator-{FORMAT}"


def installed() -> Emulator:
    """The emulator, its files checked by size and time of change.

    Raises DeviceUnavailable when a part is absent, damaged or of another version of Pocketforge, and ToolMissing when
    a Python package that it needs is not installed; both say what to run.
    """
    return as_emulator(load(deep=False))


def identity() -> str:
    """A short name of everything that decides what an emulated run gives: versions and hashes of all parts.

    `none` when the emulator cannot be used as it is. Reads no large file unless its time of change is new.
    """
    try:
        parts = load(deep=False)
    except PocketforgeError:
        return "none"
    identities = [
        [name, part.version, part.key, sorted((n, f.sha256) for n, f in part.files.items())]
        for name, part in sorted(parts.items())
    ]
    return digest_of(json.dumps(identities))


def load(*, deep: bool) -> dict[str, Part]:
    """All parts, checked; `deep` reads every file. The qemu is the one in use now. Raises as `installed`."""
    need_packages()
    try:
        known = manifest.read(emulator_folder())
    except (OSError, ValueError) as error:
        raise DeviceUnavailable(f"the emulator cannot be used: {error}", f"make it again: {SETUP}") from None
    if known is None:
        raise DeviceUnavailable("the emulator is not set up on this machine", f"set it up: {SETUP}")
    return {name: check_part(name, known.get(name), deep=deep) for name in ALL}


def check_part(name: str, part: Part | None, *, deep: bool) -> Part:
    """One part of the manifest if it is whole and of this version; qemu as it is now. Raises DeviceUnavailable."""
    chosen = qemu_binary.chosen() if name == QEMU else None
    if chosen is not None and (part is None or part.path(QEMU) != chosen):
        return qemu_part(qemu_binary.examine_chosen(chosen))
    if part is None:
        raise DeviceUnavailable(f"the emulator has no {name}", f"get it: {SETUP}")
    if name in (*pinned.RUNTIMES, RUNNERS, READER) and part.key != wanted_key(name):
        raise DeviceUnavailable(
            f"the emulator's {name} (version {part.version}) is of another version of Pocketforge: "
            "what it is made from has changed since",
            f"bring it up to date: {SETUP}",
        )
    trouble = manifest.trouble(part, deep=deep)
    if trouble and name == QEMU and part.origin == OWN:
        return upgraded(part.path(QEMU), "aarch64", of="the emulator", setup=SETUP)
    if trouble:
        raise DeviceUnavailable(f"the emulator's {name}: {trouble}", f"repair it: {SETUP}")
    return part


def upgraded(path: Path, guest: qemu_binary.Guest, *, of: str, setup: str) -> Part:
    """The user's own qemu after an upgrade: as good, and gives results of its own.

    Raises DeviceUnavailable, which names whose it is (`of`) and how to find another (`setup`).
    """
    try:
        return qemu_part(qemu_binary.examine(path, guest))
    except qemu_binary.UnfitQemuError as error:
        raise DeviceUnavailable(f"the qemu of {of}, {path}, {error}", f"look for another: {setup}") from None


def qemu_part(qemu: qemu_binary.Qemu) -> Part:
    """The user's own qemu, which stays where it is, as a part."""
    record = manifest.KeptFile(qemu.sha256, qemu.size, qemu.mtime_ns)
    name = qemu.path.name
    return Part(QEMU, qemu.version, OWN, "", qemu.path.parent, {QEMU: name}, {name: record})


def as_emulator(parts: Mapping[str, Part]) -> Emulator:
    return Emulator(
        qemu=parts[QEMU].path(QEMU),
        qemu_version=parts[QEMU].version,
        sysroot=parts[LIBRARIES].folder,
        runners={runtime: parts[RUNNERS].path(runtime) for runtime in parts[RUNNERS].roles},
        libraries={runtime: parts[runtime].path(runtime) for runtime in pinned.RUNTIMES},
        reader=parts[READER].path(READER),
        versions={name: part.version for name, part in parts.items()},
    )


def need_packages() -> None:
    """Raises ToolMissing, naming the extra."""
    absent = [name for name, version in package_versions().items() if version == "none"]
    if absent:
        raise ToolMissing(
            f"the emulator needs {' and '.join(absent)}, which {_are(absent)} not installed", install("emulator")
        )


def package_versions() -> dict[str, str]:
    """Versions of the Python packages that the emulator needs; `none` where one is not installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions


def wanted_key(name: str) -> str:
    """What a part must have been made from to serve this version of Pocketforge."""
    if name in pinned.RUNTIMES:
        wheel = pinned.RUNTIMES[name]
        return digest_of(wheel.sha256, wheel.main, *wheel.members)
    compiler = sorted({f"{wheel.name} {wheel.version}" for wheel in pinned.COMPILERS.values()})
    wheels = [wanted_key(runtime) for runtime in pinned.RUNTIMES] if name == RUNNERS else []
    files = [p for place in _BUILT[name] for p in ([place] if place.is_file() else sorted(place.rglob("*")))]
    sources = [path for path in files if path.is_file() and path.suffix != ".md"]
    return digest_of(*compiler, *wheels, *(f"{path.name} {hash_file(path)}" for path in sources))


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
