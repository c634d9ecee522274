"""What an app must carry for model files, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.report.tables import Screen, console, table, words
from pocketforge.results.packing import LEVELS
from pocketforge.version import install

if TYPE_CHECKING:
    from pocketforge.measure.app_size import Carried, CarriedFile
    from pocketforge.runtimes.operators import BuildFile

_MOST_LINES = 20


def show_carried(carried: Carried, built: Sequence[BuildFile], folder: Path | None) -> None:
    """folder: where what the runtimes' builds read was written; None: nowhere, and its lines are shown."""
    screen = console()
    _show_files(screen, carried)
    _show_libraries(screen, carried)
    for file in carried.files:
        screen.print()
        _show_needs(screen, file)
    for each in built:
        screen.print()
        place = each.name if folder is None else str(folder / each.name)
        screen.print(words((place, "bold"), f"  {each.use}"))
        lines = each.text.splitlines() if folder is None else []
        for line in lines if len(lines) <= _MOST_LINES else [f"{len(lines)} lines: --write DIR writes them"]:
            screen.print(f"  {line}")


def _show_files(screen: Screen, carried: Carried) -> None:
    levels = tuple(LEVELS.values())
    app = carried.app
    columns = ("bytes", *levels, "installed", "app download", "app installed")
    rows = table(f"app for {app.abi}, sent with {LEVELS[app.compression]}", "file", *columns, numbers=columns)
    for file in carried.files:
        rows.add_row(
            file.path.name,
            f"{file.size_bytes:,}",
            *(_size(file.packed_bytes[name]) for name in LEVELS),
            f"{file.installed_bytes:,}",
            _size(file.app_download_bytes),
            _size(file.app_installed_bytes),
        )
    if len(carried.files) > 1:
        empty = [""] * (len(levels) + 2)
        rows.add_row("all together", *empty, _size(carried.app_download_bytes), _size(carried.app_installed_bytes))
    screen.print(rows)
    if any(None in file.packed_bytes.values() for file in carried.files):
        screen.print(f"zstd and brotli: {install('size')}")


def _show_libraries(screen: Screen, carried: Carried) -> None:
    for runtime, library in carried.libraries.items():
        if library is None:
            screen.print(words((f"{runtime}: ", "yellow"), carried.unknown[runtime]))
            continue
        sizes = f"{_size(library.download_bytes)} to download, {_size(library.size_bytes)} installed"
        screen.print(f"{runtime}: {library.words}: {sizes} ({library.source})")
    screen.print(
        "counted: these files alone; not Java classes, nor what else an app has. Stores compress their own way."
    )


def _show_needs(screen: Screen, file: CarriedFile) -> None:
    screen.print(words((file.path.name, "bold"), f"  {file.runtime}  sha256 {file.sha256}"))
    if file.needs.delegates:
        screen.print(f"delegates: {', '.join(file.needs.delegates)}")
    operators = file.needs.operators
    if operators:
        where = any(each.kernels for each in operators)
        columns = ("operator", "version", "count", *(("kernels",) if where else ()), "types")
        rows = table("", *columns, numbers=("version", "count"))
        for each in operators:
            version = "" if each.version is None else str(each.version)
            kernels = [each.kernels or "none"] if where else []
            cells = (f"{each.domain}.{each.name}", version, str(each.count), *kernels)
            rows.add_row(*cells, "; ".join(each.types))
        screen.print(rows)
    for note in file.needs.notes:
        screen.print(note)


def _size(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"
