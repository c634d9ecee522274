"""`voc:DIR`: Pascal VOC, or XML files of its form beside their images."""

from __future__ import annotations

from pocketforge.data.annotated.voc_files import list_voc
from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import layout_digest


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without annotations, and for images that are not there."""
    found = list_voc(place)
    paths = {path for each in found.images for path in (each.image, each.xml, each.mask) if path is not None}
    layout = layout_digest(found.folder, ((each.split, each.image) for each in found.images))
    return SourceFiles(tuple(sorted({*paths, *found.lists})), found.notes, layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for annotations that are no XML."""
    from pocketforge.data.annotated.voc_samples import VocImages

    return VocImages(list_voc(place), place.labels)
