"""Stand-ins for what ExecuTorch's library wants of torch and Python, so that it runs without either.

The wheel's `_portable_lib.so` holds the whole runtime, but is a Python module linked to libtorch. Its C++ API never
calls Python, and of libtorch only two things: pthreadpool and cpuinfo. The generated C source defines every symbol
that neither the library nor the C and C++ libraries define: pthreadpool as loops in the calling thread, data as zeros,
and everything else as a function that names itself and ends the process. It goes with one wheel: generate it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PREFIX = "pthreadpool_parallelize_"
_LOOP = re.compile(r"(\d)d(?:_tile_(\d)d)?(_dynamic)?(_with_uarch)?(_with_thread)?")
_DATA_BYTES = 4096  # more than any object that Python or libtorch exports


@dataclass(frozen=True, slots=True)
class Missing:
    """A symbol that a library takes from others; is_data: it is read, never called."""

    name: str
    is_data: bool


def missing_symbols(library: Path, providers: Iterable[Path]) -> tuple[Missing, ...]:
    """The symbols that `library` needs and none of `providers` defines, by name; weak ones may stay undefined."""
    provided = {name for path in providers for name in _defined(path)}
    return tuple(m for m in _undefined(library) if m.name not in provided)


def source(missing: Iterable[Missing]) -> str:
    """C source that defines all of `missing` but what cpuinfo.c defines. ValueError for an unknown pthreadpool loop."""
    lines = [_HEAD]
    for symbol in missing:
        if symbol.name in _WRITTEN or symbol.name.startswith("cpuinfo_"):
            continue
        if symbol.name.startswith(PREFIX):
            lines.append(_loop(symbol.name))
        elif symbol.is_data:
            lines.append(f"char {symbol.name}[{_DATA_BYTES}] __attribute__((aligned(64)));")
        else:
            lines.append(f'void {symbol.name}(void) {{ not_here("{symbol.name}"); }}')
    return "\n".join(lines) + "\n"


def _undefined(library: Path) -> list[Missing]:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64
    from elftools.elf.relocation import RelocationSection

    found = []
    with library.open("rb") as file:
        elf = ELFFile(file)
        relocated: dict[int, set[int]] = {}
        for section in elf.iter_sections():
            if isinstance(section, RelocationSection):
                for entry in section.iter_relocations():
                    relocated.setdefault(entry["r_info_sym"], set()).add(entry["r_info_type"])
        for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
            if symbol["st_shndx"] != "SHN_UNDEF" or not symbol.name or symbol["st_info"]["bind"] == "STB_WEAK":
                continue
            kind = symbol["st_info"]["type"]
            # Python's symbols carry no type: what is only ever reached through the table of addresses is data.
            untyped_data = relocated.get(index) == {ENUM_RELOC_TYPE_AARCH64["R_AARCH64_GLOB_DAT"]}
            is_data = kind == "STT_OBJECT" or (kind == "STT_NOTYPE" and untyped_data)
            found.append(Missing(symbol.name, is_data))
    return sorted(found, key=lambda m: m.name)


def _defined(library: Path) -> list[str]:
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
        return [s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF" and s.name]


def _loop(name: str) -> str:
    """One of pthreadpool's functions as it runs with one thread (its own portable-api.c): tile by tile, in order.

    _dynamic: tiles of any size may be asked for, and one thread takes the whole range at once. _with_uarch: core type
    0, the only one. _with_thread: thread 0.
    """
    match = _LOOP.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise ValueError(
            f"unknown pthreadpool function {name}: this ExecuTorch is not one that the stub was written for"
        )
    dimensions, tiles = int(match[1]), int(match[2] or 0)
    dynamic, with_uarch, with_thread = (match[n] is not None for n in (3, 4, 5))
    indices = "ijklmn"[:dimensions]
    tiled = indices[dimensions - tiles :] if tiles else ""
    given = [
        "pthreadpool_t pool",
        "void *task",
        "void *context",
        *(["uint32_t default_uarch", "uint32_t max_uarch"] if with_uarch else []),
        *(f"size_t range_{x}" for x in indices),
        *(f"size_t tile_{x}" for x in tiled),
        "uint32_t flags",
    ]
    unused = ["pool", *(["default_uarch", "max_uarch"] if with_uarch else [])]
    if dynamic:
        unused += [f"tile_{x}" for x in tiled]
    loops = " ".join(f"for (size_t {x} = 0; {x} < range_{x}; {x} += {_step(x, tiled, dynamic)})" for x in indices)
    passed = ["context", *(["0"] if with_uarch else []), *(["0"] if with_thread else []), *indices]
    passed += [f"range_{x}" if dynamic else f"least(tile_{x}, range_{x} - {x})" for x in tiled]
    types = ["void *", *(["uint32_t"] if with_uarch else []), *(["size_t"] * (len(passed) - 1 - with_uarch))]
    return (
        f"void {name}({', '.join(given)}) {{\n"
        f"    {' '.join(f'(void){x};' for x in unused)}\n"
        f"    uint64_t before = begin(flags);\n"
        f"    {loops}\n"
        f"        ((void (*)({', '.join(types)}))task)({', '.join(passed)});\n"
        f"    end(flags, before);\n"
        f"}}"
    )


def _step(index: str, tiled: str, dynamic: bool) -> str:
    if index not in tiled:
        return "1"
    return f"range_{index}" if dynamic else f"tile_{index}"


_WRITTEN = frozenset(
    {
        "pthreadpool_create",
        "pthreadpool_create_v2",
        "pthreadpool_destroy",
        "pthreadpool_get_threads_count",
        "pthreadpool_release_executor_threads",
        "pthreadpool_update_executor",
        "_ZSt21ios_base_library_initv",
    }
)

_HEAD = r"""/* Generated by pipeline/pocketforge/devices/emulator/torch_stub.py from one wheel's undefined symbols. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

typedef void *pthreadpool_t;

__attribute__((noreturn)) static void not_here(const char *name) {
    fprintf(stderr, "pf_executorch: the model needs %s, which only libtorch or Python has; this runner has neither\n",
            name);
    _exit(70);
}

/* The library relies on a libstdc++ (13 and later) that readies its streams by itself; with an earlier one, each user
 * constructs this object for that. Doing so again is harmless. */
void _ZNSt8ios_base4InitC1Ev(void *);
void _ZSt21ios_base_library_initv(void) {}
__attribute__((constructor)) static void ready_streams(void) {
    static char object[16];
    _ZNSt8ios_base4InitC1Ev(object);
}

/* One thread, and pthreadpool's own treatment of the flag that turns subnormal numbers into zeros: FPCR.FZ and FZ16. */
static uint64_t begin(uint32_t flags) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (flags & 1) __asm__ volatile("msr fpcr, %0" ::"r"(before | 0x1080000));
    return before;
}

static void end(uint32_t flags, uint64_t before) {
    if (flags & 1) __asm__ volatile("msr fpcr, %0" ::"r"(before));
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static char the_pool;
pthreadpool_t pthreadpool_create(size_t threads) { (void)threads; return &the_pool; }
pthreadpool_t pthreadpool_create_v2(void *executor, void *context, size_t threads) {
    (void)executor, (void)context, (void)threads;
    return &the_pool;
}
void pthreadpool_destroy(pthreadpool_t pool) { (void)pool; }
size_t pthreadpool_get_threads_count(pthreadpool_t pool) { (void)pool; return 1; }
void pthreadpool_release_executor_threads(pthreadpool_t pool) { (void)pool; }
bool pthreadpool_update_executor(pthreadpool_t pool, void *executor, void *context) {
    (void)pool, (void)executor, (void)context;
    return true;
}
"""
