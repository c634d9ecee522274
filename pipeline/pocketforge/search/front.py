"""Which of several trials no other beats, which of those is recommended, and how much a front covers. Pure.

Points are losses: a value for each objective, less is better (`losses`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pocketforge.recipe.metric import Better

Point = tuple[float, ...]


def losses(values: Mapping[str, float], better: Mapping[str, Better]) -> Point:
    """A trial's values as losses, in the objectives' order; NaN where one is not known."""
    if any(name not in values for name in better):
        return tuple(math.nan for _ in better)
    return tuple(-values[name] if way == "higher" else values[name] for name, way in better.items())


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse and somewhere better. What is not known beats nothing, and is beaten."""
    if any(map(math.isnan, one)):
        return False
    if any(map(math.isnan, other)):
        return True
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def front(points: Mapping[int, Point]) -> list[int]:
    """Those that no other beats, by number; of equal ones the first."""
    found: list[int] = []
    for number in sorted(points):
        point = points[number]
        beaten = any(dominates(other, point) for other in points.values())
        if not beaten and not any(map(math.isnan, point)) and all(points[each] != point for each in found):
            found.append(number)
    return found


def ranks(points: Mapping[int, Point]) -> dict[int, int]:
    """0 for those that no other beats, 1 for those that only these beat, and so on."""
    left = dict(points)
    found: dict[int, int] = {}
    rank = 0
    while left:
        first = [n for n, point in left.items() if not any(dominates(other, point) for other in left.values())]
        found |= dict.fromkeys(first, rank)
        left = {n: point for n, point in left.items() if n not in found}
        rank += 1
    return found


def distances(points: Mapping[int, Point]) -> dict[int, float]:
    """From the best value of every objective at once, each scaled by its span; of what is not known infinite."""
    known = {number: point for number, point in points.items() if not any(map(math.isnan, point))}
    columns = list(zip(*known.values(), strict=True))
    least = [min(column) for column in columns]
    spans = [max(column) - low or 1.0 for column, low in zip(columns, least, strict=True)]
    found = dict.fromkeys(points, math.inf)
    for number, point in known.items():
        found[number] = round(math.hypot(*((v - low) / s for v, low, s in zip(point, least, spans, strict=True))), 12)
    return found


def nearest_to_best(points: Mapping[int, Point]) -> int:
    """Of a front the point with the least of these distances."""
    far = distances(points)
    return min(points, key=lambda number: (far[number], number))


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """What the points cover of the box up to `reference`, exactly: cut into slices along the last objective."""
    inside = [point for point in points if all(a < b for a, b in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(point[0] for point in inside)
    heights = sorted({point[-1] for point in inside})
    volume = 0.0
    for low, high in zip(heights, [*heights[1:], reference[-1]], strict=True):
        slab = [point[:-1] for point in inside if point[-1] <= low]
        volume += (high - low) * hypervolume(slab, reference[:-1])
    return volume
