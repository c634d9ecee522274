"""Sizes of runtimes' libraries, read from published packages: what an app carries beside its model files.

The rows are in runtime_libraries.json, which docs/runtime_libraries.py writes from the packages themselves. What could
not be read is a row of `not_read`: of it nothing is known, and nothing is guessed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

DATA = Path(__file__).with_name("runtime_libraries.json")
Abi = Literal["arm64-v8a", "armeabi-v7a", "x86_64", "linux-aarch64", "wasm32"]
ABIS: tuple[Abi, ...] = get_args(Abi)


@dataclass(frozen=True, slots=True)
class LibraryFile:
    """A file of a runtime's library.

    Attributes:
        name: Its own.
        sha256: Of its bytes.
        size_bytes: Of the file.
        gzip_bytes: Of the file, packed by gzip -9.
        zstd_bytes: Of the file, packed by zstd -19.
        brotli_bytes: Of the file, packed by brotli at quality 9.
        stripped: Whether it is without a table of symbols; None where it is no ELF file.
    """

    name: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    zstd_bytes: int
    brotli_bytes: int
    stripped: bool | None


@dataclass(frozen=True, slots=True)
class RuntimeLibrary:
    """What an app carries of a runtime, for one ABI.

    Attributes:
        name: Of the row, as a recipe names it.
        runtime: Name in RUNTIMES.
        library: What it is called, in words.
        version: The library's own.
        abi: Which processors and systems it is for.
        source: The package that its files were read from.
        default: Whether it is what an app has that says nothing else: the runtime's own, whole build.
        files: All that an app carries of it; without Java classes.
    """

    name: str
    runtime: str
    library: str
    version: str
    abi: Abi
    source: str
    default: bool
    files: tuple[LibraryFile, ...]

    @property
    def words(self) -> str:
        return f"{self.library} {self.version} for {self.abi}"


@dataclass(frozen=True, slots=True)
class NotRead:
    """A library that is published where it could not be read.

    Attributes:
        runtime: Name in RUNTIMES.
        library: What it is called, in words.
        source: Where it is published.
    """

    runtime: str
    library: str
    source: str


@functools.cache
def runtime_libraries() -> tuple[RuntimeLibrary, ...]:
    return tuple(
        RuntimeLibrary(**{**row, "files": tuple(LibraryFile(**file) for file in row["files"])})
        for row in json.loads(DATA.read_text(encoding="utf-8"))["libraries"]
    )


@functools.cache
def not_read() -> tuple[NotRead, ...]:
    return tuple(NotRead(**row) for row in json.loads(DATA.read_text(encoding="utf-8"))["not_read"])


def library_named(name: str) -> RuntimeLibrary | None:
    return next((row for row in runtime_libraries() if row.name == name), None)


def default_library(runtime: str, abi: str) -> RuntimeLibrary | None:
    """None where its size is not known: nothing else stands in for it."""
    return next((row for row in runtime_libraries() if row.default and (row.runtime, row.abi) == (runtime, abi)), None)


def why_unknown(runtime: str, abi: str) -> str:
    """Why a library's size is not known, and what is, in words."""
    elsewhere = [row.source for row in not_read() if row.runtime == runtime]
    known = [row.name for row in runtime_libraries() if row.runtime == runtime and row.abi == abi]
    others = _listed([row.abi for row in runtime_libraries() if row.runtime == runtime and row.default])
    return "; ".join(
        [
            f"the size of {runtime}'s library for {abi} is not known",
            *(
                [f"not read here: {', '.join(elsewhere)}"]
                if elsewhere and abi not in ("linux-aarch64", "wasm32")
                else []
            ),
            *([f"another build's is: {_listed(known)}"] if known else []),
            *([f"known for {others}"] if others else []),
        ]
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
