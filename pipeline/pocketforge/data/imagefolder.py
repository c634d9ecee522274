"""`imagefolder:DIR`: one folder a class, or DIR/{train,val|test|…}/class/…; read with Pillow."""

from __future__ import annotations

import hashlib

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.image_layout import list_images


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without classes or images."""
    listed = list_images(place.path, place.split_folders)
    inside = len(str(place.path))  # where the folder lies says nothing
    places = "".join(f"{split}\0{name}\0{str(path)[inside:]}\0" for split, name, path in listed.images)
    layout = hashlib.sha256(places.encode("utf-8", "surrogateescape")).hexdigest()
    return SourceFiles(tuple(path for _, _, path in listed.images), listed.notes, layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for a folder without classes or images, ToolMissing without Pillow."""
    from pocketforge.data.image_samples import ImageFolder

    return ImageFolder(place.path, place.split_folders)
