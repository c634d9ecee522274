"""Which versions of the C and C++ libraries an arm64 library needs, and which a library gives.

The loader refuses to start a program whose needed versions (ELF section .gnu.version_r) are not all defined
(.gnu.version_d) by the libraries it finds: the same check, made before anything is built or run.
See the Linux Standard Base, "Symbol Versioning".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import DeviceUnavailable


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of symbols in an ELF file.

    Attributes:
        needed: Library file name → names of versions that this file needs of it.
        given: Versions that the file itself defines.
    """

    needed: Mapping[str, frozenset[str]]
    given: frozenset[str]


def read_versions(path: Path) -> Versions:
    """Raises DeviceUnavailable when the file is not an arm64 library or program."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

    needed: dict[str, frozenset[str]] = {}
    given: set[str] = set()
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_machine"] != "EM_AARCH64":
                raise DeviceUnavailable(f"{path} is not for arm64 but for {elf['e_machine']}")
            for section in elf.iter_sections():
                if isinstance(section, GNUVerNeedSection):
                    for library, entries in section.iter_versions():
                        needed[library.name] = frozenset(entry.name for entry in entries)
                elif isinstance(section, GNUVerDefSection):
                    given |= {next(iter(entries)).name for _, entries in section.iter_versions()}
    # A damaged file makes the reader stumble in many ways: all mean that no library can be read from it.
    except (ELFError, OSError, ValueError, KeyError, AttributeError, UnicodeDecodeError, StopIteration) as error:
        raise DeviceUnavailable(f"{path} cannot be read as a library: {error!r}") from None
    return Versions(needed, frozenset(given))


def unmet(users: Iterable[Path], folder: Path) -> list[str]:
    """What arm64 files need that the libraries in `folder` do not have: one line each, newest version only."""
    given: dict[str, frozenset[str]] = {}
    faults = []
    for user in users:
        for library, wanted in sorted(read_versions(user).needed.items()):
            path = folder / library
            if not path.exists():
                faults.append(f"{user.name} needs {library}, which is not there")
                continue
            if library not in given:
                given[library] = read_versions(path).given
            absent = wanted - given[library]
            if absent:
                newest = max(absent, key=_order)
                faults.append(f"{user.name} needs {newest} of {library}, which has {_newest(given[library], newest)}")
    return faults


def library_version(path: Path, prefix: str) -> str:
    """The newest version that a library defines of a kind, for instance GLIBC_2.36 of GLIBC."""
    return _newest(read_versions(path).given, f"{prefix}_0")


def _newest(given: frozenset[str], like: str) -> str:
    same = [name for name in given if name.rpartition("_")[0] == like.rpartition("_")[0] and _order(name)]
    return max(same, key=_order, default="none of the kind")


def _order(name: str) -> tuple[int, ...]:
    numbers = name.rpartition("_")[2].split(".")
    return tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else ()
