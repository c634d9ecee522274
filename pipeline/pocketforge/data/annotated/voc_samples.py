"""Samples of Pascal VOC: annotations are read with their image."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from pocketforge.data.annotated.object_samples import Objects, has_background, numbered, told_empty
from pocketforge.data.annotated.voc_files import VocSet
from pocketforge.data.annotated.xml_file import number_of, read_xml, text_of
from pocketforge.data.base import Array
from pocketforge.data.boxes import BoxNotes, check_box
from pocketforge.data.file_samples import ImageFiles
from pocketforge.data.labels import check_names
from pocketforge.data.read_mask import check_mask, read_mask
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError


class VocImages(ImageFiles):
    """`boxes`, `classes`, `crowd` (difficult objects: found or not, they do not count), `areas` (of boxes) of each
    image, and `mask` where lists of Segmentation are read: 0 is the background.

    Boxes count pixels from 1 and hold their last one: (1, 1, 2, 2) is two by two from the corner, here 0, 0, 2, 2.
    Classes are numbered in the order of their names, as VOC's own (behind the background where there are masks), or as
    `labels` has them.
    """

    def __init__(self, found: VocSet, labels: tuple[str, ...]) -> None:
        super().__init__(
            [each.image for each in found.images],
            [each.name for each in found.images],
            [each.split for each in found.images],
        )
        self._images = found.images
        self._boxes = BoxNotes()
        names: set[str] = set()
        empty = 0
        for each in found.images:
            objects = read_xml(each.xml).findall("object")
            names.update(text_of(one, "name", f"{each.xml}: object {number}") for number, one in enumerate(objects))
            empty += not objects
        self._told = told_empty(empty, len(found.images), str(found.folder))
        with_masks = found.images[0].mask is not None
        self.labels = labels or check_names(
            [*(["background"] if with_masks else []), *sorted(names)], str(found.folder)
        )
        if with_masks and not has_background(self.labels):
            raise ModelError(
                f"data.source: in masks of {found.folder} 0 is the background, and class 0 of data.labels is "
                f"{self.labels[0]!r}",
                "the first line of the labels file is background",
            )
        self._numbers = numbered(sorted(names), self.labels, str(found.folder))

    def sample(self, index: int) -> tuple[tuple[Array, ...], Targets]:
        image, each = self.image(index), self._images[index]
        size = (image.shape[0], image.shape[1])
        root, objects = read_xml(each.xml), Objects()
        _check_size(root, size, str(each.xml))
        for number, one in enumerate(root.findall("object")):
            self._add(objects, one, size, f"{each.xml}: object {number}")
        arrays = objects.arrays(size, 0)
        if each.mask is not None:
            arrays["mask"] = read_mask(each.mask)
            check_mask(arrays["mask"], image, len(self.labels), f"data.source: the mask {each.mask}")
        return (image,), Targets(arrays)

    def _add(self, objects: Objects, one: Element, size: tuple[int, int], where: str) -> None:
        name = text_of(one, "name", where)
        corners = [number_of(one, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax")]
        # Tools that count from 0 write a 0 at the edge.
        x1, y1 = (max(corner - 1, min(corner, 0.0)) for corner in corners[:2])
        box = (x1, y1, corners[2], corners[3])
        if not check_box(box, size, f"{where} ({name})", self._boxes):
            return
        difficult = (one.findtext("difficult") or "0").strip()
        objects.add(box, self._numbers[name], crowd=difficult == "1", area=(box[2] - box[0]) * (box[3] - box[1]))

    def notes(self) -> Sequence[str]:
        return [*self._told, *self._boxes.lines(), *super().notes()]


def _check_size(root: Element, size: tuple[int, int], where: str) -> None:
    """Tools that did not open the image write 0."""
    found = [int(number_of(root, f"size/{side}", where)) if root.find(f"size/{side}") is not None else 0
             for side in ("height", "width")]  # fmt: skip
    if all(found) and tuple(found) != size:
        raise ModelError(
            f"data.source: {where} is of an image of {found[1]}×{found[0]} (width×height), the image has "
            f"{size[1]}×{size[0]}",
            "boxes are of another size of the image, or its EXIF orientation turns it",
        )
