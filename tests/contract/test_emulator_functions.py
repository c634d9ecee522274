"""Function bounds read from the arm64 libraries agree with pyelftools' own, slower reading of the unwind table."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

from pocketforge.devices.answers import Mapped
from pocketforge.devices.emulator.functions import LIBRARY_STEP, FunctionMap, Library
from pocketforge.devices.emulator.parts import Emulator

BASE = 0x5500000000


@pytest.fixture(params=["libgcc_s.so.1", "ld-linux-aarch64.so.1", "libm.so.6"])
def library(request: pytest.FixtureRequest, emulator: Emulator) -> Path:
    return emulator.sysroot / "lib" / request.param


def functions(path: Path) -> dict[int, tuple[int, str]]:
    """Start → (length, symbol) by the symbol table, and by the unwind table where no symbol covers it."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        named: dict[int, tuple[int, str]] = {}
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"] and symbol["st_shndx"] != "SHN_UNDEF":
                start = symbol["st_value"]
                name = min(symbol.name, named[start][1]) if start in named else symbol.name
                named[start] = (symbol["st_size"], name)
        unwound = {
            e["initial_location"]: e["address_range"]
            for e in elf.get_dwarf_info().EH_CFI_entries()
            if isinstance(e, FDE)
        }
    covered = [(start, start + size) for start, (size, _) in named.items()]
    nameless = {a: (n, "") for a, n in unwound.items() if not any(low <= a < high for low, high in covered)}
    return {**nameless, **named}


def test_every_function_is_found_from_its_first_to_its_last_instruction(library: Path) -> None:
    found = Library(library)
    wanted = functions(library)
    assert len(wanted) > 50
    for start, (size, symbol) in wanted.items():
        # An alias may begin inside another function; then its first instruction is what counts.
        for address in {start, start + (size - 1 & ~3)} if symbol == "" else {start}:
            assert found.name(address, ()) == (f"!{symbol}" if symbol else f"+{start:#x}")


def test_code_without_a_name_is_split_where_calls_enter_it(emulator: Emulator) -> None:
    found = Library(emulator.libraries["tflite"])
    gap = next(a for a in range(0x1090E0, 0x5B5000, 0x40) if found.name(a, ()) != found.name(a, (a,)))
    before = found.name(gap, ())
    assert found.name(gap, (gap,)) == f"+{gap:#x}" == found.name(gap + 8, (gap, gap + 12))
    assert found.name(gap, (gap + 4,)) == before


def test_addresses_are_placed_in_their_file_wherever_the_loader_put_it(emulator: Emulator) -> None:
    path = emulator.sysroot / "lib" / "libgcc_s.so.1"
    start, (_, symbol) = next((a, f) for a, f in functions(path).items() if f[1])
    for base in (BASE, BASE + 0x7000):
        entry: Mapped = {"path": "/lib/libgcc_s.so.1", "base": hex(base), "size": path.stat().st_size}
        unknown: Mapped = {"path": "linux-vdso.so.1", "base": "0x7000000000", "size": 4096}
        found = FunctionMap([unknown, entry], emulator.sysroot)
        assert found.name(base + start) == f"libgcc_s.so.1!{symbol}"
        assert found.place(base + start) == 2 * LIBRARY_STEP + start
        assert found.file(base + start) == ("libgcc_s.so.1", path)
        assert found.name(0x7000000010) == "linux-vdso.so.1" and found.file(0x7000000010) is None
        assert found.name(0x10) == "[no library]" and found.place(0x10) == 0x10


@pytest.mark.parametrize("content", [b"", b"no ELF file", b"\x7fELF" + bytes(60)])
def test_a_file_that_is_no_library_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable ELF file"):
        Library(tmp_path / "lib.so")
