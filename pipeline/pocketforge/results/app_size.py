"""What an app carries for a model file: the file and its runtime's library, as they are sent and as they are installed.

Sent, each file is compressed by itself. Installed for Android, they are stored in the APK, uncompressed and aligned so
that they can be mapped, as zipalign does. For other systems they are files. Java classes, and what an app
has besides, are not counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.files import hash_file, read_whole
from pocketforge.recipe import Recipe
from pocketforge.recipe.app import APP_METRICS, DOWNLOAD, App, AppLibrary
from pocketforge.recipe.runtime_libraries import Abi, RuntimeLibrary
from pocketforge.records import Artifact, HowCarried
from pocketforge.results.packing import LEVELS, packed_bytes

# Of zipalign: libraries begin at a page, of the largest size that Android has (-P 16), all else at four bytes.
_PAGE_BYTES, _WORD_BYTES = 16_384, 4
# Of a ZIP: a local header, an entry of the central directory, its end.
_LOCAL_BYTES, _CENTRAL_BYTES, _END_BYTES = 30, 46, 22
_ANDROID: tuple[Abi, ...] = ("arm64-v8a", "armeabi-v7a", "x86_64")
# ELF's number of a processor → what a library of it can be for.
_MACHINES: Mapping[int, tuple[Abi, ...]] = {183: ("arm64-v8a", "linux-aarch64"), 40: ("armeabi-v7a",), 62: ("x86_64",)}
_HEADER_BYTES = 64
_STORED = "stored"


@dataclass(frozen=True, slots=True)
class Part:
    """A file as an app carries it.

    Attributes:
        name: Its place in the APK.
        size_bytes: Uncompressed.
    """

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CountedLibrary:
    """A runtime's library as it is counted; None for what nobody gave.

    Attributes:
        words: Which it is.
        source: Where its size is from.
        parts: Its files, as they are installed.
        sha256: Name → SHA-256 of each file; empty where only sizes are known.
        download_bytes: As it is sent, with the app's compression.
    """

    words: str
    source: str
    parts: tuple[Part, ...] | None
    download_bytes: int | None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int | None:
        return None if self.parts is None else sum(part.size_bytes for part in self.parts)


def installed_bytes(parts: Iterable[Part], abi: Abi) -> int:
    """Of an APK that holds these files and nothing else; of other systems, of the files."""
    if abi not in _ANDROID:
        return sum(part.size_bytes for part in parts)
    at, directory = 0, _END_BYTES
    for part in parts:
        name = len(part.name.encode())
        at += _LOCAL_BYTES + name
        at += -at % (_PAGE_BYTES if part.name.endswith(".so") else _WORD_BYTES) + part.size_bytes
        directory += _CENTRAL_BYTES + name
    return at + directory


def model_part(name: str, size_bytes: int) -> Part:
    return Part(f"assets/{name}", size_bytes)


def counted_library(app: App, runtime: str, resolve: Callable[[str], Path]) -> CountedLibrary | None:
    """None where its size is not known. resolve: a path of the recipe → an absolute one.

    Raises RecipeError for a file that is no library for the app's ABI, ToolMissing.
    """
    found = app.library_of(runtime)
    if isinstance(found, RuntimeLibrary):
        return _of_row(found, app)
    if found is None:
        return None
    if found.gives_sizes:
        return _of_sizes(found, app.abi)
    return _of_file(resolve(found.file), app)


def check_app(recipe: Recipe) -> None:
    """Raises RecipeError, before anything is built, for a file that is no library for the app's ABI; ToolMissing for a
    compression whose package is not installed."""
    if not any(budget.metric in APP_METRICS for budget in recipe.budgets):
        return
    packed_bytes(b"", recipe.app.compression)
    for each in recipe.app.libraries:
        if each.file:
            path = recipe.resolve(each.file)
            with path.open("rb") as file:
                _check_library(file.read(_HEADER_BYTES), path, recipe.app.abi)


def _of_row(row: RuntimeLibrary, app: App) -> CountedLibrary:
    return CountedLibrary(
        row.words,
        row.source,
        tuple(Part(_place(file.name, app.abi), file.size_bytes) for file in row.files),
        sum(getattr(file, f"{app.compression}_bytes") for file in row.files),
        {file.name: file.sha256 for file in row.files},
    )


def _of_sizes(given: AppLibrary, abi: Abi) -> CountedLibrary:
    size = given.runtime_library_bytes
    parts = None if size is None else (Part(_place(f"lib{given.runtime}.so", abi), size),)
    return CountedLibrary("sizes that the recipe gives", "the recipe", parts, given.runtime_library_download_bytes)


def _of_file(path: Path, app: App) -> CountedLibrary:
    data = read_whole(path)
    _check_library(data, path, app.abi)
    parts = (Part(_place(path.name, app.abi), len(data)),)
    sha256 = {path.name: hashlib.sha256(data).hexdigest()}
    return CountedLibrary(path.name, "a file of the user's", parts, packed_bytes(data, app.compression), sha256)


def _check_library(data: bytes, path: Path, abi: Abi) -> None:
    """Raises RecipeError: another processor's library has another size."""
    if data.startswith(b"\x7fELF"):
        fits = _MACHINES.get(int.from_bytes(data[18:20], "big" if data[5:6] == b"\x02" else "little"), ())
        what = f"an ELF library for {' or '.join(fits) or 'another processor'}"
    elif data.startswith(b"\0asm"):
        fits, what = ("wasm32",), "WebAssembly (wasm32)"
    elif data.startswith(b"PK\x03\x04"):
        fits, what = (), "a ZIP archive: unpack it (of an .aar, jni/ABI/libNAME.so) and give the library in it"
    else:
        fits, what = (), f"bytes {data[:4]!r}"
    if abi not in fits:
        raise RecipeError(f"{path}: wanted a runtime's library for {abi}, found {what}")


def _place(name: str, abi: Abi) -> str:
    return f"lib/{abi}/{name}" if abi in _ANDROID else name


def app_bytes(
    metric: str, app: App, models: Sequence[Part], models_download: int, libraries: Sequence[CountedLibrary]
) -> int | None:
    """Of an app with these files. None where a library's size is not known. models_download: compressed, together."""
    if metric == DOWNLOAD:
        sent = [library.download_bytes for library in libraries]
        return None if None in sent else models_download + sum(filter(None, sent))
    if any(library.parts is None for library in libraries):
        return None
    return installed_bytes([*models, *(part for library in libraries for part in library.parts or ())], app.abi)


def how_carried(metric: str, app: App, model_bytes: int, library: CountedLibrary) -> HowCarried:
    """How a value came about. model_bytes: what the model file has in it."""
    size = library.download_bytes if metric == DOWNLOAD else library.size_bytes
    assert size is not None, "a metric is asked for only where the recipe's rules know all that it needs"
    return HowCarried(
        abi=app.abi,
        as_sent=LEVELS[app.compression] if metric == DOWNLOAD else _STORED,
        model_part_bytes=model_bytes,
        library=library.words,
        library_part_bytes=size,
        library_from=library.source,
        library_sha256=library.sha256,
    )


def asked_of_app(recipe: Recipe, target: str) -> list[str]:
    """Metrics of APP_METRICS that a budget names for a target. Of others nothing is known, and nothing is asked."""
    named = {budget.metric for budget in recipe.budgets if budget.target in ("", target)}
    return [metric for metric in APP_METRICS if metric in named]


def app_values(
    recipe: Recipe, runtime: str, model: Artifact, path: Path, metrics: Sequence[str]
) -> Iterator[tuple[str, int, HowCarried]]:
    """Each metric, its value with the app of the recipe, and how that came about. path: of the model file.

    Raises RecipeError for a file that is no library for the app's ABI, ToolMissing.
    """
    library = counted_library(recipe.app, runtime, recipe.resolve) if metrics else None
    for metric in metrics:
        assert library is not None, "a recipe whose budget is on an app with an unknown library is none"
        part = model_part(model.path, model.size_bytes)
        sent = model.gzip_bytes if recipe.app.compression == "gzip" else 0
        if metric == DOWNLOAD and not sent:
            sent = packed_bytes(read_whole(path), recipe.app.compression)
        value = app_bytes(metric, recipe.app, [part], sent, [library])
        assert value is not None, "the recipe's rules hold that the library's size is known"
        in_it = sent if metric == DOWNLOAD else model.size_bytes
        yield metric, value, how_carried(metric, recipe.app, in_it, library)


def is_of_app(how: HowCarried, metric: str, recipe: Recipe, runtime: str) -> bool:
    """Whether a value of a report is of the app that a recipe says: another recipe's may be another."""
    library = recipe.app.library_of(runtime)
    wanted = LEVELS[recipe.app.compression] if metric == DOWNLOAD else _STORED
    if how.abi != recipe.app.abi or how.as_sent != wanted or library is None:
        return False
    if isinstance(library, RuntimeLibrary):
        return how.library_sha256 == {file.name: file.sha256 for file in library.files}
    if library.file:
        path = recipe.resolve(library.file)
        return path.is_file() and how.library_sha256 == {path.name: hash_file(path)}
    given = library.runtime_library_download_bytes if metric == DOWNLOAD else library.runtime_library_bytes
    return not how.library_sha256 and how.library_part_bytes == given
