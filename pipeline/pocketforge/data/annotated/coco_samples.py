"""Samples of COCO files: what they say is read and checked when they are opened, images when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pocketforge.data.annotated.coco_entries import CocoFile
from pocketforge.data.annotated.coco_files import Annotated, ImageEntry, images_of
from pocketforge.data.annotated.coco_outlines import Outlines
from pocketforge.data.annotated.object_samples import Objects, has_background, numbered, told_empty
from pocketforge.data.base import Array
from pocketforge.data.boxes import BoxNotes, check_box
from pocketforge.data.file_samples import ImageFiles
from pocketforge.data.labels import check_names
from pocketforge.data.packed import Texts
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError


class CocoImages(ImageFiles):
    """`boxes`, `classes`, `crowd` and `areas` of each image; `keypoints` and `mask` where the files have them.

    Classes are numbered in the order of their category ids, or as `labels` has them.
    """

    def __init__(self, found: Sequence[Annotated], labels: tuple[str, ...]) -> None:
        self._boxes = BoxNotes()
        self._points = 0
        self._objects: list[Objects] = []
        self._sizes: list[tuple[int, int]] = []
        self._whole = True  # every object has its outline
        contents = [CocoFile(each.path) for each in found]
        self._outlines = Outlines(contents)
        self._number_classes(found, contents, labels)
        paths, ids, splits = [], [], []
        for each, content in zip(found, contents, strict=True):
            images = images_of(each, content)
            self._read(each, content, images)
            paths += [image.path for image in images]
            ids += [image.path.relative_to(each.folder).as_posix() for image in images]
            splits += [each.split] * len(images)
        _refuse_twice(ids, found)
        super().__init__(paths, Texts(ids), splits)
        empty = sum(not objects.classes for objects in self._objects)
        self._told = told_empty(empty, len(ids), " and ".join(str(each.path) for each in found))

    def _number_classes(
        self, found: Sequence[Annotated], contents: Sequence[CocoFile], labels: tuple[str, ...]
    ) -> None:
        by_id: dict[int, str] = {}
        for each, content in zip(found, contents, strict=True):
            own: set[int] = set()
            for number, category in enumerate(content.entries("categories")):
                key, name = category.get("id"), category.get("name")
                where = f"data.source: {each.path}: categories[{number}]"
                if type(key) is not int or not isinstance(name, str) or not name:
                    raise ModelError(f"{where} has no id and name: {category}"[:300])
                if key in own or by_id.setdefault(key, name) != name:
                    raise ModelError(f"{where}: id {key} is {name!r} and {by_id[key]!r}: an id is one class")
                own.add(key)
                points = category.get("keypoints")
                self._points = max(self._points, len(points) if isinstance(points, list) else 0)
        ids = sorted(by_id)
        where = str(found[0].path)
        numbers = numbered([by_id[key] for key in ids], labels, where) if labels else {}
        self._classes = {key: numbers[by_id[key]] if labels else place for place, key in enumerate(ids)}
        self.labels = labels or check_names([by_id[key] for key in ids], where)

    def _read(self, each: Annotated, content: CocoFile, images: Sequence[ImageEntry]) -> None:
        places: dict[object, int] = {}
        first = len(self._objects)
        for number, image in enumerate(images):
            key, size = image.id, (image.height, image.width)
            where = f"data.source: {each.path}: images[{number}]"
            if not isinstance(key, int | str) or key in places:
                raise ModelError(f"{where} ({image.file_name}) has {'no id' if key is None else f'id {key!r} twice'}")
            if not all(type(side) is int and side > 0 for side in size):
                raise ModelError(f"{where} ({image.file_name}) has no height and width in pixels, found {size}")
            places[key] = first + number
            self._objects.append(Objects())
            self._sizes.append((int(image.height), int(image.width)))
        for number, entry in enumerate(content.entries("annotations")):
            where = f"{each.path}: annotations[{number}] (id {entry.get('id')})"
            if entry.get("image_id") not in places:
                raise ModelError(
                    f"data.source: {where} is of image_id {entry.get('image_id')!r}, which is no image's id"
                )
            place, number_of_class = places[entry["image_id"]], self._class_of(entry, where)
            kept = self._add(place, number_of_class, entry, where)
            self._outlines.places.append(place if kept else -1)
            self._outlines.numbers.append(number_of_class)

    def _class_of(self, entry: Mapping[str, Any], where: str) -> int:
        key = entry.get("category_id")
        if key not in self._classes:
            known = ", ".join(map(str, sorted(self._classes)[:8]))
            raise ModelError(f"data.source: {where} has category_id {key!r}, which is no category's id ({known} …)")
        return self._classes[key]

    def _add(self, place: int, number: int, entry: Mapping[str, Any], where: str) -> bool:
        """Whether it is an object: a box without area is none."""
        x, y, width, height = _numbers(entry.get("bbox"), 4, f"{where}: bbox (x, y, width, height)")
        box = (x, y, x + width, y + height)
        if not check_box(box, self._sizes[place], where, self._boxes):
            return False
        area = entry.get("area", width * height)
        points = _numbers(entry.get("keypoints"), 3 * self._points, f"{where}: keypoints") if self._points else ()
        self._objects[place].add(
            box,
            number,
            crowd=bool(entry.get("iscrowd", 0)),
            area=_numbers([area], 1, f"{where}: area")[0],
        )
        self._objects[place].keypoints.extend(points)
        self._whole = self._whole and bool(entry.get("segmentation"))
        return True

    def sample(self, index: int) -> tuple[tuple[Array, ...], Targets]:
        image, size = self.image(index), self._sizes[index]
        if image.shape[:2] != size:
            turned = "; its EXIF orientation turns it" if image.shape[1::-1] == size else ""
            raise ModelError(
                f"data.source: the image {self._paths[index]} is {image.shape[1]}×{image.shape[0]} (width×height), its "
                f"annotations say {size[1]}×{size[0]}{turned}",
                "boxes are of another size of the image: correct width and height, or the image",
            )
        arrays = self._objects[index].arrays(size, self._points)
        if not self._whole:
            return (image,), Targets(arrays)
        where = f"{self._paths[index]}"
        named = has_background(self.labels)
        return (image,), _WithMask(arrays, lambda: self._outlines.of(index), size, where, named=named)

    def notes(self) -> Sequence[str]:
        return [*self._told, *self._boxes.lines(), *super().notes()]


class _WithMask(Targets):
    """Whose `mask` is painted when it is asked for: detectors do not."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        outlines: Callable[[], list[tuple[int, object]]],
        size: tuple[int, int],
        where: str,
        *,
        named: bool,
    ) -> None:
        """named: whether class 0 is the background, so that a class number is its value in a mask."""
        super().__init__(arrays)
        self._outlines, self._size, self._where, self._named = outlines, size, where, named

    def __getitem__(self, name: str) -> Array:
        if name == "mask":
            if not self._named:
                raise ModelError(
                    "data.source: in masks 0 is the background, and class 0 of these annotations is none",
                    "write data.labels: a file whose first line is background, then one line a category",
                )
            from pocketforge.data.annotated.coco_masks import paint

            return paint(self._outlines(), self._size, self._where)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        if self._named:
            yield "mask"

    def __len__(self) -> int:
        return super().__len__() + self._named


def _numbers(value: object, count: int, where: str) -> list[float]:
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
    ):
        raise ModelError(f"data.source: {where} must be {count} numbers, found {str(value)[:80]}")
    return value


def _refuse_twice(ids: Sequence[str], found: Sequence[Annotated]) -> None:
    seen: set[str] = set()
    for sample_id in ids:
        if sample_id in seen:
            files = " and ".join(str(each.path) for each in found)
            raise ModelError(
                f"data.source: {files}: the image {sample_id} is named twice", "an image is in one split, once"
            )
        seen.add(sample_id)
