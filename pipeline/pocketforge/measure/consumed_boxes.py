"""A detector's file in MediaPipe's ObjectDetector: its own boxes, and the task's held against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pocketforge.measure.file_checks import check
from pocketforge.metrics import Array
from pocketforge.outcomes.verify import FileCheck

# A task gives whole pixels, cut off.
_MOST_PIXELS = 1.001
_MOST_DIFFERENCE = 1e-3


def rows_of_boxes(outputs: Mapping[str, Array]) -> Array:
    """[n, boxes, 6]: left, top, right, bottom, class, score; NaN behind those that there are. outputs: by the names
    that MediaPipe has for a detector's, samples first."""
    boxes = np.asarray(outputs["location"], np.float32)
    samples, most = boxes.shape[:2]
    last = [np.asarray(outputs[name], np.float32).reshape(samples, most, 1) for name in ("category", "score")]
    rows = np.concatenate([boxes, *last], -1)
    counts = np.asarray(outputs["number of detections"], np.float32).reshape(samples, 1)
    rows[np.arange(most) >= counts] = np.nan
    return rows


def box_checks(
    name: str, rows: Array, found: Array, labels: Sequence[str], pictures: tuple[int, ...]
) -> Iterator[FileCheck]:
    """rows: the file's own. found: the task's: left, top, width and height in pixels, class, score. pictures: the shape
    of the samples, [n, height, width, 3]."""
    wanted = [_as_shown(each, labels, pictures) for each in rows]
    given = [each[~np.isnan(each[:, 5])] for each in found]
    counts = [(len(own), len(other)) for own, other in zip(wanted, given, strict=True)]
    unlike = next(((own, other) for own, other in counts if own != other), None)
    total = sum(own for own, _ in counts)
    if unlike is not None:
        yield check(f"{name} boxes", f"{unlike[0]} boxes of a sample", f"{unlike[1]}", False)
        return
    if not total:
        yield check(f"{name} boxes", "a box in one sample or more", "none in any", False)
        return
    own, other = np.concatenate(wanted), np.concatenate(given)
    pixels, score = (float(np.abs(own[:, at] - other[:, at]).max()) for at in (slice(0, 4), 5))
    same = float((own[:, 4] == other[:, 4]).mean())
    yield check(f"{name} boxes", "at most a pixel off", f"{pixels:.3g} px of {total} boxes", pixels <= _MOST_PIXELS)
    yield check(f"{name} values", f"at most {_MOST_DIFFERENCE:g} off", f"{score:.3g}", score <= _MOST_DIFFERENCE)
    yield check(f"{name} classes", "the file's own", f"{same:.1%} of {total} boxes", same == 1.0)


def _as_shown(rows: Array, labels: Sequence[str], pictures: tuple[int, ...]) -> Array:
    """As the task has to give them. It passes over boxes of negative width or height, and gives classes by their names:
    of several classes of one name this is the first."""
    height, width = pictures[1:3]
    kept = rows[~np.isnan(rows[:, 5])]
    sizes = kept[:, 2:4] - kept[:, :2]
    kept, sizes = kept[(sizes >= 0).all(1)], sizes[(sizes >= 0).all(1)]
    first = {number: labels.index(name) for number, name in enumerate(labels)}
    numbers = [first.get(round(float(number)), round(float(number))) for number in kept[:, 4]]
    scale = np.asarray([width, height, width, height], np.float32)
    shown = np.concatenate([np.concatenate([kept[:, :2], sizes], 1) * scale, kept[:, 4:]], 1)
    shown[:, 4] = numbers
    return shown
