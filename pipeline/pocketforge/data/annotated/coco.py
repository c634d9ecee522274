"""`coco:PATH`: one COCO JSON file, or a folder that holds one a split, and the images that they name."""

from __future__ import annotations

from pathlib import Path

from pocketforge.data.annotated.coco_entries import LISTS, CocoFile
from pocketforge.data.annotated.coco_files import annotation_files, images_of
from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import layout_digest


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without annotations, a damaged file and images that are not there."""
    notes: list[str] = []
    paths: set[Path] = set()
    found = annotation_files(place, notes)
    for each in found:
        content = CocoFile(each.path)
        for key in LISTS:  # one that is not there is said before anything is made of the others
            next(content.entries(key), None)
        paths.add(each.path)
        paths.update(image.path for image in images_of(each, content))
    layout = layout_digest(found[0].folder, ((each.split, each.path) for each in found))
    return SourceFiles(tuple(sorted(paths)), tuple(notes), layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for annotations that fit no image, class or size."""
    from pocketforge.data.annotated.coco_samples import CocoImages

    notes: list[str] = []
    return CocoImages(annotation_files(place, notes), place.labels)
