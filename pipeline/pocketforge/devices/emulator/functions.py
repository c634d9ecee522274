"""Which function an address of an emulated run belongs to: "library!symbol", else "library+0x…" of where it starts.

The runtimes' libraries are stripped, so most names are offsets. A function's bounds come from the symbol tables, else
from the unwind table (.eh_frame, DWARF 5 §6.4.1 and the LSB's .eh_frame_hdr), which compilers write for every function;
hand-written assembly has neither, and is split where calls were seen to enter it.
"""

from __future__ import annotations

import bisect
import functools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.devices.answers import Mapped

LIBRARY_STEP = 1 << 36
_PC_RELATIVE_TABLE = (1, 0x3B)  # version; table of signed 32-bit offsets from the header: what linkers write

# Elf64_Sym: name, info (its low four bits are the type), other, section, value, size; STT_FUNC and STT_GNU_IFUNC.
_SYMBOL, _FUNCTIONS, _UNDEFINED = "<IBBHQQ", (2, 10), 0


@dataclass(frozen=True, slots=True)
class Region:
    """One function of a library.

    Attributes:
        start: Its first address in the file.
        end: The first one behind it.
        symbol: Its name; empty where the library has none for it.
    """

    start: int
    end: int
    symbol: str = ""


class Library:
    """The functions of one ELF file. Raises ValueError when it is none."""

    def __init__(self, path: Path) -> None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                loads = list(elf.iter_segments("PT_LOAD"))
                self.fixed = elf["e_type"] == "ET_EXEC"
                self.low = min(s["p_vaddr"] for s in loads)
                regions, self._starts = _symbols(elf)
                regions += [Region(s["sh_addr"], s["sh_addr"] + s["sh_size"], s.name) for s in _stubs(elf)]
                covered = _Sorted(regions)
                regions += [r for r in _unwound(elf) if covered.at(r.start) is None]
        except (ELFError, ValueError, OSError, struct.error) as error:
            raise ValueError(f"{path} is not a readable ELF file: {error}") from None
        self._regions = _Sorted(regions)

    def name(self, address: int, entries: Sequence[int]) -> str:
        """ "!symbol" or "+0x<start>". entries: sorted addresses (of this file) that calls were seen to enter."""
        region = self._regions.at(address)
        if region is not None:
            return f"!{region.symbol}" if region.symbol else f"+{region.start:#x}"
        known = [self._regions.end_before(address), *(_last(starts, address) for starts in (entries, self._starts))]
        return f"+{max(known, default=0):#x}"


class FunctionMap:
    """Names the addresses of one run.

    libraries: as the dynamic loader reported them to the runner. sysroot: where qemu
    looks first for such a path. entered: addresses at which a called block began.
    """

    def __init__(self, libraries: Iterable[Mapped], sysroot: Path, entered: Iterable[int] = ()) -> None:
        calls = sorted(set(entered))
        self._mapped = []
        for number, entry in enumerate(libraries, 1):
            path, base = entry["path"], int(entry["base"], 16)
            file = next((p for p in (sysroot / path.lstrip("/"), Path(path)) if p.is_file()), None)
            end = base + entry["size"]
            entries = calls[bisect.bisect_left(calls, base) : bisect.bisect_left(calls, end)]
            self._mapped.append(_Mapped(number, base, end, Path(path).name or "program", file, entries))

    def name(self, pc: int) -> str:
        """The function's name; "[no library]" for code that no library holds. Raises ValueError for a broken file."""
        mapped = self._at(pc)
        if mapped is None:
            return "[no library]"
        if mapped.library is None:
            return mapped.name
        return mapped.name + mapped.library.name(pc - mapped.bias, mapped.entries_in_file)

    def place(self, pc: int) -> int:
        """The address without where the loader happened to map the library: its address in the file, plus 2^36 times
        the library's number in the order of loading. Branches inside a library stay what they are.
        """
        mapped = self._at(pc)
        return pc if mapped is None else mapped.number * LIBRARY_STEP + pc - mapped.bias

    def file(self, pc: int) -> tuple[str, Path] | None:
        mapped = self._at(pc)
        return None if mapped is None or mapped.file is None else (mapped.name, mapped.file)

    def _at(self, pc: int) -> _Mapped | None:
        return next((m for m in self._mapped if m.base <= pc < m.end), None)


@dataclass
class _Mapped:
    number: int
    base: int
    end: int
    name: str
    file: Path | None
    entries: list[int]

    @functools.cached_property
    def library(self) -> Library | None:
        """Read when the first block of it is looked up: most of a process's libraries run no code in a window."""
        return Library(self.file) if self.file else None

    @functools.cached_property
    def bias(self) -> int:
        if self.library is None:
            return self.base
        return 0 if self.library.fixed else self.base - (self.library.low & ~0xFFF)

    @functools.cached_property
    def entries_in_file(self) -> list[int]:
        return [entry - self.bias for entry in self.entries]


class _Sorted:
    def __init__(self, regions: Iterable[Region]) -> None:
        self._regions = sorted(regions, key=lambda r: (r.start, r.end, r.symbol))
        self._starts = [r.start for r in self._regions]

    def at(self, address: int) -> Region | None:
        index = bisect.bisect_right(self._starts, address) - 1
        return self._regions[index] if index >= 0 and address < self._regions[index].end else None

    def end_before(self, address: int) -> int:
        index = bisect.bisect_right(self._starts, address) - 1
        return self._regions[index].end if index >= 0 else 0


def _last(values: Sequence[int], limit: int) -> int:
    index = bisect.bisect_right(values, limit) - 1
    return values[index] if index >= 0 else 0


def _symbols(elf: Any) -> tuple[list[Region], list[int]]:
    """Functions with a size, one name an address (the first in the alphabet), and the starts of those without."""
    from elftools.elf.sections import SymbolTableSection

    named: dict[int, Region] = {}
    starts: set[int] = set()
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        # By hand: pyelftools builds objects of each of some 11,000 symbols, a third of a second for a runtime.
        names = section.stringtable.data()
        for text_at, info, _, place, start, size in struct.iter_unpack(_SYMBOL, section.data()):
            if info & 0xF not in _FUNCTIONS or place == _UNDEFINED:
                continue
            if not size:
                starts.add(start)
                continue
            name = names[text_at : names.index(b"\0", text_at)].decode("utf-8", "replace")
            if start not in named or name < named[start].symbol:
                named[start] = Region(start, start + size, name)
    return list(named.values()), sorted(starts)


def _stubs(elf: Any) -> list[Any]:
    return [s for s in (elf.get_section_by_name(name) for name in (".plt", ".iplt")) if s is not None and s["sh_size"]]


def _unwound(elf: Any) -> list[Region]:
    """Function bounds from .eh_frame, found through the sorted table of .eh_frame_hdr."""
    header = next(iter(elf.iter_segments("PT_GNU_EH_FRAME")), None)
    if header is None:
        return []
    data, base = header.data(), header["p_vaddr"]
    version, _, count_form, table_form = data[:4]
    if (version, table_form) != _PC_RELATIVE_TABLE or count_form != 3:
        return []
    (count,) = struct.unpack_from("<I", data, 8)
    loads = [(s["p_vaddr"], s.data()) for s in elf.iter_segments("PT_LOAD") if not s["p_flags"] & 2]
    wide: dict[int, bool] = {}
    regions = []
    for start, record in struct.iter_unpack("<ii", data[12 : 12 + 8 * count]):
        at, memory = _locate(loads, base + record)
        # record: length, distance to the CIE, start, length of the function, …
        length, back = struct.unpack_from("<II", memory, at)
        if length == 0xFFFFFFFF:  # 64-bit DWARF: not written for aarch64 by GCC or LLVM
            return []
        cie = at + 4 - back
        if cie not in wide:
            wide[cie] = _has_wide_addresses(memory, cie)
        size = (
            struct.unpack_from("<Q", memory, at + 16)[0] if wide[cie] else struct.unpack_from("<I", memory, at + 12)[0]
        )
        regions.append(Region(base + start, base + start + size))
    return regions


def _locate(loads: Sequence[tuple[int, bytes]], address: int) -> tuple[int, bytes]:
    for start, memory in loads:
        if start <= address < start + len(memory):
            return address - start, memory
    raise ValueError(f"its unwind table points outside the file ({address:#x})")


def _has_wide_addresses(memory: bytes, cie: int) -> bool:
    """Are the addresses of this CIE's records 8 bytes wide? Read from its 'R' augmentation (LSB 5 §10.6.1)."""
    at = cie + 9
    stop = memory.index(b"\0", at)
    letters = memory[at:stop].decode("ascii", "replace")
    at = stop + 1
    for _ in range(2):  # code and data alignment factors
        at = _after_leb128(memory, at)
    at = at + 1 if memory[cie + 8] == 1 else _after_leb128(memory, at)  # return address register
    if not letters.startswith("z"):
        return True
    at = _after_leb128(memory, at)
    for letter in letters[1:]:
        if letter == "R":
            return memory[at] & 0x07 in (0, 4)
        if letter == "P":
            at += 1 + (8 if memory[at] & 0x07 in (0, 4) else 4)
        elif letter == "L":
            at += 1
    return True


def _after_leb128(memory: bytes, at: int) -> int:
    while memory[at] & 0x80:
        at += 1
    return at + 1
