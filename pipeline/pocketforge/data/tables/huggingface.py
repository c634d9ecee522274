"""`huggingface:DIR`: what `save_to_disk` of the library `datasets` wrote, one data set or a DatasetDict of splits."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.errors import ModelError

_HINT = "the folder of dataset.save_to_disk(…): it holds dataset_info.json and state.json, or dataset_dict.json"


def files(place: Place) -> SourceFiles:
    """All files of the folder: the data is in them. Raises ModelError for a folder that is no data set."""
    folder = place.path
    if not folder.is_dir():
        raise ModelError(f"data.source: there is no folder {folder}", "paths are relative to the recipe's folder")
    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        raise ModelError(
            f"data.source: {folder} is no data set on disk: it has no dataset_dict.json, nor state.json", _HINT
        )
    # cache-*.arrow: what `map` left there; nobody reads it here.
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix in (".json", ".arrow")
        and not path.name.startswith("cache-")
    )  # fmt: skip
    return SourceFiles(tuple(paths))


def open_place(place: Place) -> Source:
    """Raises ModelError for what is no data set, and for cells that are not what their column is."""
    from pocketforge.data.tables.arrow_rows import ArrowRows
    from pocketforge.data.tables.column_source import ColumnSource

    files(place)
    rows = ArrowRows(place.path, place.split_folders, [])
    return ColumnSource(rows, place, place.path, str(place.path), files=False)
