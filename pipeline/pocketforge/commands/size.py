"""What `pocketforge size` does: which model files a path stands for, and what an app carries with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketforge.errors import ModelError, RecipeError
from pocketforge.files import explain_os_error, hash_file, write_whole
from pocketforge.recipe import suggest
from pocketforge.recipe.app import App, AppLibrary, Compression
from pocketforge.recipe.faults import WrongTable
from pocketforge.recipe.runtime_libraries import Abi, library_named
from pocketforge.recipe.shipped_names import SUMS
from pocketforge.records import Report
from pocketforge.registries import RUNTIMES
from pocketforge.results.output_folder import FAILED, RELEASE
from pocketforge.runtimes.operators import BuildFile

_AGAIN = "build again, or give the files themselves"


def app_for(abi: Abi, compression: Compression, libraries: Sequence[str]) -> App:
    """libraries: `RUNTIME=FILE`, or `RUNTIME=NAME` of a row of the table. Raises RecipeError."""
    given = []
    for word in libraries:
        runtime, equals, which = word.partition("=")
        if not equals or runtime not in RUNTIMES:
            raise RecipeError(
                f"--library is RUNTIME=FILE or RUNTIME=NAME (pocketforge docs size), found {word!r}"
                f"{suggest(runtime, RUNTIMES)}"
            )
        given.append((runtime, which))
    try:
        rows = [
            AppLibrary(runtime, known=which) if library_named(which) else AppLibrary(runtime, file=which)
            for runtime, which in given
        ]
        return App(abi, compression, tuple(rows))
    except WrongTable as error:
        raise RecipeError("; ".join(map(str, error.faults))) from None


def files_of_report(report: Report, folder: Path) -> list[Path]:
    """A build's model files, as it left them in `folder`. Raises RecipeError for one that is not the report's."""
    within = next((folder / name for name in (RELEASE, FAILED) if (folder / name).is_dir()), None)
    if within is None:
        raise RecipeError(f"{folder} has a report, and neither {RELEASE}/ nor {FAILED}/ with its files", _AGAIN)
    return _checked({within / a.path: a.sha256 for target in report.targets for a in target.artifacts})


def files_of(path: Path) -> list[Path]:
    """Of a release all of its model files; a file is one itself. Raises ModelError, RecipeError."""
    if not path.is_dir():
        return [path]
    sums = path / SUMS
    if not sums.is_file():
        raise ModelError(f"{path}: wanted a release (a folder with {SUMS}), found a folder without", _AGAIN)
    lines = [line.partition("  ") for line in sums.read_text("utf-8", errors="replace").splitlines()]
    files = _checked({path / name: digest for digest, _, name in lines if name})
    if not files:
        raise RecipeError(f"{sums} names no files", _AGAIN)
    return files


def _checked(files: dict[Path, str]) -> list[Path]:
    for path, digest in files.items():
        if not path.is_file():
            raise RecipeError(f"{path.parent} lacks {path.name}, which it should hold", _AGAIN)
        if hash_file(path) != digest:
            raise RecipeError(f"{path} is not the file that was built: its SHA-256 is another", _AGAIN)
    return list(files)


def write_build_files(files: Sequence[BuildFile], folder: Path) -> None:
    """Raises StoreError; RecipeError for two files of one name."""
    names = [each.name for each in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"--write would write {twice[0]} twice: model files of one name", "give them one at a time")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, "--write") from error
    for each in files:
        write_whole(folder / each.name, each.text.encode(), "--write")
