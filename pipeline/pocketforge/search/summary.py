"""From trials to what a search found: its front, the recommended trial, how the front grew. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge.recipe.metric import Better
from pocketforge.search.front import Point, front, hypervolume, losses, nearest_to_best
from pocketforge.search.result import Gained
from pocketforge.search.trial import Trial

# Beyond the worst value, as a share of the span: a front's ends cover something, too.
_MARGIN = 0.1
_DIGITS = 6


def front_of(trials: Sequence[Trial], better: Mapping[str, Better]) -> list[int]:
    """Of trials that keep all budgets those that no other beats, the best of the first objective first."""
    points = {trial.number: losses(trial.values, better) for trial in trials if trial.is_feasible}
    return sorted(front(points), key=lambda number: (points[number], number))


def recommended_of(trials: Sequence[Trial], better: Mapping[str, Better]) -> int | None:
    """Of the front the one nearest to the best of every objective."""
    points = {trial.number: losses(trial.values, better) for trial in trials}
    on_front = {number: points[number] for number in front_of(trials, better)}
    return nearest_to_best(on_front) if on_front else None


def nearest_to_kept(trials: Sequence[Trial]) -> Trial | None:
    """Where no trial keeps all budgets: the fully trained one that is least far from it."""
    full = [trial for trial in trials if trial.state == "full"]
    return min(full, key=lambda trial: (sum(trial.violations.values()), trial.number), default=None)


def scaled(points: Sequence[Point]) -> tuple[list[Point], Point]:
    """Points with each objective from 0, the best, to 1, the worst; and the corner that a front is measured from."""
    columns = list(zip(*points, strict=True))
    least, spans = [min(c) for c in columns], [max(c) - min(c) or 1.0 for c in columns]
    inside = [
        tuple((value - low) / span for value, low, span in zip(point, least, spans, strict=True)) for point in points
    ]
    return inside, tuple(1.0 + _MARGIN for _ in least)


def gained(trials: Sequence[Trial], better: Mapping[str, Better]) -> tuple[Gained, ...]:
    """The front's volume after each trial that bettered it."""
    kept = [trial for trial in trials if trial.is_feasible]
    if not kept:
        return ()
    points, corner = scaled([losses(trial.values, better) for trial in kept])
    by_number = dict(zip((trial.number for trial in kept), points, strict=True))
    found: list[Gained] = []
    so_far: list[Point] = []
    work_s, before = 0.0, -1.0
    whole = hypervolume([tuple(0.0 for _ in corner)], corner)
    for trial in trials:
        work_s += trial.seconds
        if trial.number not in by_number:
            continue
        so_far.append(by_number[trial.number])
        volume = round(hypervolume(so_far, corner) / whole, _DIGITS)
        if volume > before:
            found.append(Gained(trial.number, trial.ended_s, round(work_s, 1), volume))
            before = volume
    return tuple(found)
