"""`jsonl:PATH`: one file of JSON lines, or a folder with one a split; its cells are texts, paths, numbers and lists."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.tables.file_cells import listed_files, named, paths_folder
from pocketforge.data.tables.object_rows import ObjectRows
from pocketforge.data.tables.table_files import table_files

_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a line that is no JSON object, and for paths in it that are not there."""
    notes: list[str] = []
    found = table_files(place, _ENDINGS, "JSON lines", notes)
    rows = ObjectRows(found, place.path, notes)
    return listed_files(rows, place, found)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for cells that are not what their column is."""
    from pocketforge.data.tables.column_source import ColumnSource

    found = table_files(place, _ENDINGS, "JSON lines", [])
    return ColumnSource(ObjectRows(found, place.path), place, paths_folder(place), named([path for _, path in found]))
