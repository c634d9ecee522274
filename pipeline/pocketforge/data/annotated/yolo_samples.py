"""Samples of a YOLO data set: a line an object, in shares of the image's width and height."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pocketforge.data.annotated.object_samples import Objects, numbered, told_empty
from pocketforge.data.annotated.yolo_files import YoloSet
from pocketforge.data.base import Array
from pocketforge.data.boxes import BoxNotes, check_box
from pocketforge.data.file_samples import ImageFiles
from pocketforge.data.labels import check_names
from pocketforge.data.targets import MOST_CLASSES, Targets
from pocketforge.errors import ModelError
from pocketforge.files import read_whole

_VISIBLE = 2.0


class YoloImages(ImageFiles):
    """`boxes`, `classes`, `crowd` (none is), `areas` (of boxes) of each image, and `keypoints` where there are any.

    A polygon's box is the smallest around it. An image without a file of labels has no objects.
    """

    def __init__(self, found: YoloSet, labels: tuple[str, ...]) -> None:
        super().__init__(
            [image for _, image, _ in found.images],
            [image.relative_to(found.folder).as_posix() for _, image, _ in found.images],
            [split for split, _, _ in found.images],
        )
        self._files = [file for _, _, file in found.images]
        self._points = found.points
        self._boxes, self._repeated = BoxNotes(), 0
        where = str(found.folder)
        self.labels = labels or check_names(found.names, where)
        numbers = numbered(found.names, labels, where) if labels and found.names else {}
        self._numbers = [numbers[name] for name in found.names] if numbers else None
        empty = sum(not file.is_file() or not file.stat().st_size for file in self._files)
        self._told = told_empty(empty, len(self._files), where)

    def sample(self, index: int) -> tuple[tuple[Array, ...], Targets]:
        image = self.image(index)
        size = (image.shape[0], image.shape[1])
        objects, seen = Objects(), set()
        file = self._files[index]
        lines = read_whole(file).decode("utf-8", "replace").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                continue
            if tuple(words) in seen:
                self._repeated += 1
                continue
            seen.add(tuple(words))
            self._add(objects, words, size, f"{file} line {number}")
        return (image,), Targets(objects.arrays(size, self._points[0]))

    def _add(self, objects: Objects, words: Sequence[str], size: tuple[int, int], where: str) -> None:
        number, values = self._class(words[0], where), _shares(words[1:], where)
        box, points = _box(values, self._points, size, where)
        if not check_box(box, size, where, self._boxes):
            return
        objects.add(box, number, crowd=False, area=(box[2] - box[0]) * (box[3] - box[1]))
        objects.keypoints.extend(points)

    def _class(self, word: str, where: str) -> int:
        known = len(self._numbers) if self._numbers else len(self.labels)
        try:
            number = int(word)
        except ValueError:
            raise ModelError(f"data.source: {where} begins with {word[:40]!r}, not a class number") from None
        if not 0 <= number < (known or MOST_CLASSES):
            allowed = f"0 to {known - 1}" if known else f"0 to {MOST_CLASSES - 1}"
            raise ModelError(f"data.source: {where} has class {number}, out of range: wanted {allowed}")
        return self._numbers[number] if self._numbers else number

    def notes(self) -> Sequence[str]:
        twice = [f"{self._repeated} lines of labels are there twice, and count once"] if self._repeated else []
        return [*self._told, *self._boxes.lines(), *twice, *super().notes()]


def _shares(words: Sequence[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise ModelError(f"data.source: {where} holds what is no number: {error}") from None
    if not all(map(math.isfinite, values)):
        raise ModelError(f"data.source: {where} holds what is no number: {' '.join(words)[:60]}")
    return values


def _box(
    values: Sequence[float], points: tuple[int, int], size: tuple[int, int], where: str
) -> tuple[tuple[float, float, float, float], list[float]]:
    """x1, y1, x2, y2 and keypoints in pixels, of what follows the class number."""
    height, width = size
    count, of_each = points
    wanted = 4 + count * of_each
    if max(values[:4], default=0.0) > 2:
        raise ModelError(
            f"data.source: {where} holds pixels, not shares of width and height: {values[:4]}",
            "a line is: class, centre x, centre y, width, height, each divided by the image's width or height",
        )
    if len(values) == wanted:
        x, y, w, h = values[:4]
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return box, _keypoints(values[4:], of_each, size)
    if not count and len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        return (min(xs), min(ys), max(xs), max(ys)), []
    shape = f" and {count} keypoints of {of_each}" if count else ", or a polygon of x and y"
    raise ModelError(
        f"data.source: {where} has {len(values)} numbers behind the class: wanted {wanted} (centre x, centre y, width, "
        f"height{shape})",
        "predictions with a confidence are no labels",
    )


def _keypoints(values: Sequence[float], of_each: int, size: tuple[int, int]) -> list[float]:
    """x, y in pixels and visibility of each; of two numbers a point at 0, 0 is not labelled."""
    found: list[float] = []
    for start in range(0, len(values), of_each or 1):
        x, y = values[start] * size[1], values[start + 1] * size[0]
        seen = values[start + 2] if of_each == 3 else (_VISIBLE if x or y else 0.0)
        found += [x, y, seen]
    return found
