"""What an app must carry for model files: each file, the kernels that it needs, and its runtime's library."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.recipe.app import DOWNLOAD, INSTALLED, App, Compression
from pocketforge.recipe.runtime_libraries import why_unknown
from pocketforge.results.app_size import CountedLibrary, app_bytes, counted_library, installed_bytes, model_part
from pocketforge.results.packing import COMPRESSIONS, packed_bytes, packed_if_installed
from pocketforge.runtimes.describe import open_file
from pocketforge.runtimes.operators import UsedOperators, operators_of


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A model file in an app. Sizes of the app are None where its runtime's library is not known.

    Attributes:
        path: Where it lies.
        runtime: Name in RUNTIMES.
        sha256: Of its bytes.
        size_bytes: Of the file.
        packed_bytes: Compression → its size then; None where the compressor's package is not installed.
        installed_bytes: As it is stored in an APK by itself; of other systems, of the file.
        app_download_bytes: Of the file and its runtime's library.
        app_installed_bytes: Of the file and its runtime's library.
        needs: Its operators, delegates, and what to know of them.
    """

    path: Path
    runtime: str
    sha256: str
    size_bytes: int
    packed_bytes: Mapping[Compression, int | None]
    installed_bytes: int
    app_download_bytes: int | None
    app_installed_bytes: int | None
    needs: UsedOperators


@dataclass(frozen=True, slots=True)
class Carried:
    """What an app must carry.

    Attributes:
        app: For which processors, and how it is sent.
        files: Its model files.
        libraries: Runtime → its library; None where its size is not known.
        unknown: Runtime → why its library's size is not known.
        app_download_bytes: Of all files and each runtime's library once.
        app_installed_bytes: Of all files and each runtime's library once.
    """

    app: App
    files: tuple[CarriedFile, ...]
    libraries: Mapping[str, CountedLibrary | None]
    unknown: Mapping[str, str]
    app_download_bytes: int | None
    app_installed_bytes: int | None


def carried_for(paths: Sequence[Path], app: App) -> Carried:
    """Raises ModelError for what is no whole model file, RecipeError for a library of another ABI, ToolMissing."""
    packed_bytes(b"", app.compression)  # the app's own has to be there; the others are told where they are
    runtimes = dict.fromkeys(open_file(path).runtime for path in paths)
    libraries = {runtime: counted_library(app, runtime, Path) for runtime in runtimes}
    files = tuple(_file(path, app, libraries) for path in paths)
    together = _app([(each.path.name, each.size_bytes, each.packed_bytes) for each in files], app, libraries.values())
    unknown = {runtime: why_unknown(runtime, app.abi) for runtime, library in libraries.items() if library is None}
    return Carried(app, files, libraries, unknown, *together)


def _file(path: Path, app: App, libraries: Mapping[str, CountedLibrary | None]) -> CarriedFile:
    file = open_file(path)
    size = len(file.data)
    packed = {name: packed_if_installed(file.data, name) for name in COMPRESSIONS}
    return CarriedFile(
        path,
        file.runtime,
        hashlib.sha256(file.data).hexdigest(),
        size,
        packed,
        installed_bytes([model_part(path.name, size)], app.abi),
        *_app([(path.name, size, packed)], app, [libraries[file.runtime]]),
        operators_of(path),
    )


def _app(
    models: Sequence[tuple[str, int, Mapping[Compression, int | None]]],
    app: App,
    libraries: Collection[CountedLibrary | None],
) -> tuple[int | None, int | None]:
    """Download and installed sizes of an app with these; None where a size in it is not known."""
    known = [library for library in libraries if library is not None]
    parts = [model_part(name, size) for name, size, _ in models]
    sent = [packed[app.compression] for _, _, packed in models]
    if len(known) < len(libraries) or None in sent:
        return None, None
    download, installed = (
        app_bytes(metric, app, parts, sum(filter(None, sent)), known) for metric in (DOWNLOAD, INSTALLED)
    )
    return download, installed
