"""`csv:PATH`: one CSV file, or a folder with one a split; its cells are paths, texts and numbers."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.tables.delimited_rows import DelimitedRows
from pocketforge.data.tables.file_cells import listed_files, named, paths_folder
from pocketforge.data.tables.table_files import table_files

_ENDINGS = (".csv", ".tsv")


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a file that is no CSV, and for paths in it that are not there."""
    notes: list[str] = []
    found = table_files(place, _ENDINGS, "CSV", notes)
    rows = DelimitedRows(found, place.columns, place.path, notes)
    return listed_files(rows, place, found)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for cells that are not what their column is."""
    from pocketforge.data.tables.column_source import ColumnSource

    found = table_files(place, _ENDINGS, "CSV", [])
    rows = DelimitedRows(found, place.columns, place.path)
    return ColumnSource(rows, place, paths_folder(place), named([path for _, path in found]))
