"""Cells that name files: which they are, and where these lie. Light: a plan asks for the files too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from pocketforge.data.audiofolder import ENDINGS as SOUND
from pocketforge.data.base import Place, SourceFiles, SplitName
from pocketforge.data.files import inside, layout_digest
from pocketforge.data.image_files import image_formats
from pocketforge.data.tables.choose import Chosen, choose_columns
from pocketforge.data.tables.rows import Blob, Cell, FileKind, Rows
from pocketforge.errors import ModelError

KINDS: tuple[FileKind, ...] = get_args(FileKind)
# Targets that are files of their own.
FILE_TARGETS = {"mask": "image", "image": "image", "waveform": "sound"}
_LONGEST = 6


def file_kind(name: str) -> FileKind | None:
    """What the file of that name is, by its ending; None for what is no file's name."""
    ending = os.path.splitext(name)[1].lower()
    if not 1 < len(ending) <= _LONGEST or ending.isspace() or " " in ending:
        return None
    if ending == ".npy":
        return "array"
    if ending in SOUND:
        return "sound"
    return "image" if ending in image_formats() else None


def paths_folder(place: Place) -> Path:
    """What paths in a table are relative to."""
    if place.columns is not None and place.columns.folder:
        return place.resolve(place.columns.folder)
    return place.path if place.path.is_dir() else place.path.parent


def file_at(cell: Cell, folder: Path, where: str) -> Path:
    """The file that a cell names. Raises ModelError where it is not there or leads out of the folder."""
    if not isinstance(cell, str) or not cell:
        raise ModelError(f"data.source: {where} names no file: found {str(cell)[:60]!r}")
    path = inside(folder, cell, f"data.source: {where}")
    if not path.is_file():
        raise ModelError(
            f"data.source: {where} names {cell!r}, and there is no file {path}",
            "paths are relative to the table's folder, or to data.columns.folder",
        )
    return path


def listed_files(rows: Rows, place: Place, found: Sequence[tuple[SplitName | None, Path]]) -> SourceFiles:
    """A table's own files (with their splits) and those that its cells name. Raises ModelError as `file_at`."""
    notes, tables = list(rows.notes), [path for _, path in found]
    chosen = choose_columns(rows.names, place.columns, named(tables), notes)
    paths = {*tables, *_named_in(rows, chosen, paths_folder(place))}
    return SourceFiles(tuple(sorted(paths)), tuple(notes), table_layout(place, found))


def table_layout(place: Place, found: Sequence[tuple[SplitName | None, Path]]) -> str:
    """Of which split each file of a table is."""
    return layout_digest(place.path if place.path.is_dir() else place.path.parent, found)


def _named_in(rows: Rows, chosen: Chosen, folder: Path) -> Iterator[Path]:
    targets = [column for _, kind, column in chosen.targets if kind in FILE_TARGETS]
    columns = [*chosen.inputs, *targets]
    if not columns or not len(rows):
        return
    first = dict(zip(columns, rows.cells(0, columns), strict=True))
    # What an input is, its first cell says. Such a target is a file in every record, whatever the first one has.
    columns = [
        column
        for column, cell in first.items()
        if (isinstance(cell, str) and file_kind(cell)) or (column in targets and not isinstance(cell, Blob))
    ]
    if not columns:
        return
    seen: set[str] = set()
    for index, cells in enumerate(rows.scan(columns)):
        for cell in cells:
            if isinstance(cell, str) and cell in seen:
                continue
            path = file_at(cell, folder, rows.where(index))
            seen.add(str(cell))
            yield path


def named(tables: Sequence[Path]) -> str:
    """For errors."""
    return str(tables[0]) if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
