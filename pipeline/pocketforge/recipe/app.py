"""The app that carries the files: for which processors, as it is sent, and with which libraries of runtimes.

Budgets on `app_download_bytes` and `app_installed_bytes` need it: a model file alone is not what a user downloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import Runtime, suggest
from pocketforge.recipe.ranges import Range, range_faults
from pocketforge.recipe.runtime_libraries import (
    Abi,
    RuntimeLibrary,
    default_library,
    library_named,
    runtime_libraries,
    why_unknown,
)

Compression = Literal["gzip", "zstd", "brotli"]
DOWNLOAD, INSTALLED = "app_download_bytes", "app_installed_bytes"
APP_METRICS = (DOWNLOAD, INSTALLED)
_BYTES = Range(0, 2**40, open_low=True, unit="bytes")


@dataclass(frozen=True, slots=True)
class AppLibrary:
    """The library of one runtime, where it is not the default one: a file, a row of the table, or sizes.

    Attributes:
        runtime: Name in RUNTIMES.
        file: A library to be measured: libNAME.so for the app's ABI, or a .wasm.
        known: The name of a row of the table of libraries (docs/size.md).
        runtime_library_bytes: Its size as it is installed, uncompressed.
        runtime_library_download_bytes: Its size as it is sent, compressed.
    """

    runtime: Runtime
    file: str = ""
    known: str = ""
    runtime_library_bytes: int | None = None
    runtime_library_download_bytes: int | None = None

    RANGES: ClassVar[Mapping[str, Range]] = {
        "runtime_library_bytes": _BYTES,
        "runtime_library_download_bytes": _BYTES,
    }

    def __post_init__(self) -> None:
        faults = range_faults(self)
        ways = [bool(self.file), bool(self.known), self.gives_sizes]
        if sum(ways) != 1:
            faults.append(
                "give one of file, known, or runtime_library_bytes and runtime_library_download_bytes, "
                f"found {sum(ways)} of them"
            )
        known = [row.name for row in runtime_libraries() if row.runtime == self.runtime]
        if self.known and self.known not in known:
            faults.append(f"known: no library of {self.runtime} is {self.known!r}{suggest(self.known, known)}")
        if faults:
            raise WrongTable(*map(Fault, faults))

    @property
    def gives_sizes(self) -> bool:
        return self.runtime_library_bytes is not None or self.runtime_library_download_bytes is not None

    def lacks(self, metric: str) -> str:
        """The key that a metric needs and that is not given; empty where all is there."""
        if not self.gives_sizes:
            return ""
        key = "runtime_library_download_bytes" if metric == DOWNLOAD else "runtime_library_bytes"
        return key if getattr(self, key) is None else ""


@dataclass(frozen=True, slots=True)
class App:
    """The app that carries the files.

    Attributes:
        abi: The processors and the system that it is for.
        compression: How what is sent is compressed.
        libraries: Those of runtimes, where they are not the default ones of docs/size.md.
    """

    abi: Abi = "arm64-v8a"
    compression: Compression = "gzip"
    libraries: tuple[AppLibrary, ...] = ()

    def __post_init__(self) -> None:
        named = [each.runtime for each in self.libraries]
        faults = [f"library: {name} is there twice" for name in sorted({n for n in named if named.count(n) > 1})]
        for each in self.libraries:
            row = library_named(each.known)
            if row is not None and row.abi != self.abi:
                faults.append(f"library: {row.name} is for {row.abi}, found abi = {self.abi!r}")
        if faults:
            raise WrongTable(*map(Fault, faults))

    def library_of(self, runtime: str) -> AppLibrary | RuntimeLibrary | None:
        """What the app carries of a runtime; None where that is not known."""
        given = next((each for each in self.libraries if each.runtime == runtime), None)
        if given is not None:
            return library_named(given.known) or given
        return default_library(runtime, self.abi)

    def fault_of(self, runtime: str, metric: str) -> str:
        """Why a metric of APP_METRICS cannot be told of a runtime's files; empty where it can."""
        library = self.library_of(runtime)
        if library is None:
            return (
                f"{metric} counts the runtime's library too, and {why_unknown(runtime, self.abi)}: give it in an "
                f"[[app.library]] with runtime = {runtime!r} and file, known or "
                f"{'runtime_library_download_bytes' if metric == DOWNLOAD else 'runtime_library_bytes'}"
            )
        lacks = library.lacks(metric) if isinstance(library, AppLibrary) else ""
        return f"{metric} needs {lacks} of {runtime}'s library: add it to its [[app.library]]" if lacks else ""

    def named_files(self) -> dict[str, str]:
        return {f"library[{index}].file": each.file for index, each in enumerate(self.libraries)}
