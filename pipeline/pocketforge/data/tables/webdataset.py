"""`webdataset:PATH`: one tar, or a folder of shards; each sample is members of one name, an ending a part."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.tables.file_cells import named, table_layout
from pocketforge.data.tables.table_files import table_files
from pocketforge.data.tables.tar_rows import TarRows

_ENDINGS = (".tar",)


def files(place: Place) -> SourceFiles:
    """The tars: all is in them. Raises ModelError for a folder without any."""
    notes: list[str] = []
    found = table_files(place, _ENDINGS, "tar", notes, shards=True)
    return SourceFiles(tuple(sorted(path for _, path in found)), tuple(notes), table_layout(place, found))


def open_place(place: Place) -> Source:
    """Raises ModelError for what is no tar of samples, and for parts that are not what their ending is."""
    from pocketforge.data.tables.column_source import ColumnSource

    found = table_files(place, _ENDINGS, "tar", [], shards=True)
    where = named([path for _, path in found])
    # Paths in a tar's texts lead nowhere: nothing but the tar goes into keys.
    return ColumnSource(TarRows(found, place.path), place, place.path, where, files=False)
