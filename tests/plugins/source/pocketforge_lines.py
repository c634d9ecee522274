"""A kind of data from outside: `lines:FILE`, a sample a line, its label first and then its values."""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import existing_file
from pocketforge.errors import ModelError
from pocketforge.registries import SourceInfo

SOURCE = SourceInfo("pocketforge_lines", place="FILE")


def files(place: Place) -> SourceFiles:
    return SourceFiles((existing_file(place.path, "lines"),))


def open_place(place: Place) -> Source:
    import numpy as np

    from pocketforge.data.arrays import ArraySource

    try:
        table = np.loadtxt(place.path, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise ModelError(f"data.source: {place.path}: {error}", "a label and its values a line") from error
    return ArraySource([(None, [table[:, 1:]], table[:, 0].astype(np.int64))], (), str(place.path))
