"""The arm64 C and C++ libraries: the system's cross libraries, else those of Debian's packages, checked for use."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pocketforge.devices.emulator import pinned
from pocketforge.devices.emulator.elf_versions import library_version, unmet
from pocketforge.devices.emulator.packages import Packages
from pocketforge.devices.emulator.pinned import LIBRARIES, LIBRARY_PACKAGES, LOADER
from pocketforge.errors import DeviceUnavailable

_ELF = b"\x7fELF"


def gather(packages: Packages, folder: Path, users: Sequence[Path]) -> tuple[str, str]:
    """Fill folder/lib with what the runtimes' libraries (`users`) need; returns (version, origin).

    Raises DeviceUnavailable when they need newer ones than can be had, ToolFailed, ToolMissing.
    """
    lib = folder / "lib"
    here = [Path(place) for place in pinned.SYSTEM_FOLDERS if Path(place).is_dir()]
    if here and not packages.gives(LIBRARY_PACKAGES):
        _copy_libraries(here, lib)
        faults = _faults(lib, users)
        if not faults:
            return _version(lib), f"path {', '.join(map(str, here))}"
        packages.emit(f"  those of {', '.join(map(str, here))} will not do: {faults[0]}")
        shutil.rmtree(lib)
    debs = packages.debs(LIBRARY_PACKAGES)
    unpacked = packages.folder("libraries")
    for deb in debs:
        packages.unpack_deb(deb, unpacked)
    _copy_libraries([unpacked / "usr" / "aarch64-linux-gnu" / "lib"], lib)
    shutil.rmtree(unpacked)
    faults = _faults(lib, users)
    if faults:
        raise DeviceUnavailable(
            f"the arm64 libraries of {', '.join(deb.name for deb in debs)} will not do:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            f"give newer ones, for instance of Debian 12: {', '.join(LIBRARY_PACKAGES)} in a folder that --from names",
        )
    return _version(lib), "deb " + ", ".join(deb.name for deb in debs)


def check_users(users: Iterable[Path], lib: Path) -> None:
    """Raises DeviceUnavailable when arm64 programs need what the libraries do not have."""
    faults = unmet(users, lib)
    if faults:
        raise DeviceUnavailable("the arm64 libraries will not do:\n" + "\n".join(f"  {fault}" for fault in faults))


def _faults(lib: Path, users: Iterable[Path]) -> list[str]:
    absent = [name for name in LIBRARIES if not (lib / name).exists()]
    return [f"{', '.join(absent)}: not there"] if absent else unmet(users, lib)


def _version(lib: Path) -> str:
    return f"{library_version(lib / 'libc.so.6', 'GLIBC')}, {library_version(lib / 'libstdc++.so.6', 'GLIBCXX')}"


def _copy_libraries(sources: Iterable[Path], lib: Path) -> None:
    """Shared libraries only: a cross compiler's folder also holds archives, objects and linker scripts."""
    lib.mkdir(parents=True)
    for source in sources:
        for path in sorted(source.glob("*.so*")) if source.is_dir() else ():
            target = lib / path.name
            if target.exists() or not path.is_file() or not _is_elf(path):
                continue
            shutil.copyfile(path, target)
            if path.name == LOADER:
                target.chmod(0o755)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _ELF
