"""`masks:DIR`: a folder of images and a folder of masks of the same names, whole or in splits."""

from __future__ import annotations

from pocketforge.data.annotated.masks_files import list_pairs
from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import layout_digest


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without images and masks, and for an image without its mask."""
    found = list_pairs(place)
    paths = {path for _, image, mask in found.pairs for path in (image, mask)} | (
        {found.names} if found.names else set()
    )
    layout = layout_digest(found.folder, ((split, image) for split, image, _ in found.pairs))
    return SourceFiles(tuple(sorted(paths)), found.notes, layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for what `files` refuses, and for masks of 0 and 255 of which nobody says what 255 is."""
    from pocketforge.data.annotated.mask_samples import MaskImages

    return MaskImages(list_pairs(place), place.labels, place.mask_values)
