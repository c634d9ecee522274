"""`yolo:PATH`: a data.yaml, its folder, or a folder of images/ and labels/; a text file of objects an image."""

from __future__ import annotations

from pocketforge.data.annotated.yolo_files import list_yolo
from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import layout_digest


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without images, ToolMissing without PyYAML where there is a data.yaml."""
    found = list_yolo(place)
    paths = [path for _, image, labels in found.images for path in (image, labels) if path is image or path.is_file()]
    layout = layout_digest(found.folder, ((split, image) for split, image, _ in found.images))
    return SourceFiles(tuple(sorted({*paths, *found.others})), found.notes, layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses; objects are read with their image."""
    from pocketforge.data.annotated.yolo_samples import YoloImages

    return YoloImages(list_yolo(place), place.labels)
