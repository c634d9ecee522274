"""`parquet:PATH`: one Parquet file, or a folder with one or several a split; its cells are as of `jsonl`."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.tables.file_cells import listed_files, named, paths_folder
from pocketforge.data.tables.parquet_rows import ParquetRows
from pocketforge.data.tables.table_files import table_files

_ENDINGS = (".parquet", ".pq")


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a file that is no Parquet, and for paths in it that are not there; ToolMissing without
    pyarrow."""
    notes: list[str] = []
    found = table_files(place, _ENDINGS, "Parquet", notes, shards=True)
    rows = ParquetRows(found, place.path, notes)
    return listed_files(rows, place, found)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for cells that are not what their column is."""
    from pocketforge.data.tables.column_source import ColumnSource

    found = table_files(place, _ENDINGS, "Parquet", [], shards=True)
    return ColumnSource(ParquetRows(found, place.path), place, paths_folder(place), named([path for _, path in found]))
