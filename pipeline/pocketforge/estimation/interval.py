"""How far off the estimates are: errors on what was left out of the fit, and from them the width of an interval.

Three questions are asked of the measurements, each by leaving out what the answer must not have seen:
- calibrated: one group (architecture or family of blocks) at a time, fitted on the rest of the same core type's;
- transferred: one whole core type at a time, predicted with the parameters of its nearest fitted core type;
- uncalibrated: one whole core type at a time, predicted with the priors' centres.

The interval is the split-conformal one on absolute log errors (V. Vovk et al., Algorithmic Learning in a Random World,
2005; J. Lei et al., JASA 113, 2018), with each group weighing the same: measurements of one family err together, and a
large family must not speak for all. With fewer measurements than the coverage needs, the largest error is taken and
widened, and the basis says so. The coverage is nominal: what is estimated next may resemble no group.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketforge.estimation.calibration_file import Calibration, Errors, Fitted, Span
from pocketforge.estimation.core_model import load_core, tables_digest
from pocketforge.estimation.fitting import Parameters, Point, default_parameters, fit, predict_ms

COVERAGE = 0.9
_FEW_WIDENING = 1.5  # of the log error, where there are too few measurements for a quantile
_NARROWEST = 1.05
_ENOUGH_HELD_OUT = 10
_ENOUGH_POINTS = 12  # twice the parameters


@dataclass(frozen=True, slots=True)
class Held:
    """A measurement predicted without having been fitted on.

    Attributes:
        name: Of the point.
        group: Points that were left out together with it.
        core: The core type.
        measured_ms: Its latency.
        predicted_ms: Its latency as predicted.
    """

    name: str
    group: str
    core: str
    measured_ms: float
    predicted_ms: float

    @property
    def log_error(self) -> float:
        """Logarithm of measured over predicted."""
        return math.log(self.measured_ms / self.predicted_ms)


def fit_core(points: Mapping[str, Sequence[Point]], core: str) -> Parameters:
    """The parameters of a core type from its points.

    With few of them, what they cannot tell is taken from the core type of the same order that has the most.
    """
    model = load_core(core)
    return fit(points.get(core, ()), model, _start(points, core))


def leave_one_group_out(points: Mapping[str, Sequence[Point]], core: str) -> list[Held]:
    """Every point of a core type predicted from its other groups."""
    held = []
    for group in sorted({point.group for point in points[core]}):
        rest = [point for point in points[core] if point.group != group]
        left_out = [point for point in points[core] if point.group == group]
        held += _held(left_out, core, fit_core({**points, core: rest}, core))
    return held


def leave_one_core_out(points: Mapping[str, Sequence[Point]], core: str) -> list[Held]:
    """A core's points predicted with the nearest other core type's fit; none where no such core has points."""
    model = load_core(core)
    others = {name: of_core for name, of_core in points.items() if name != core}
    seen = [core]
    while (nearest := load_core(seen[-1]).nearest) not in seen:
        if others.get(nearest) and load_core(nearest).in_order == model.in_order:
            return _held(points[core], core, fit_core(others, nearest))
        seen.append(nearest)
    return []


def without_measurements(points: Sequence[Point], core: str) -> list[Held]:
    """A core's points predicted with the priors alone."""
    return _held(points, core, default_parameters(load_core(core)))


def calibrate(
    points: Mapping[str, Sequence[Point]],
    devices: Mapping[str, Sequence[str]],
    *,
    held_out: Mapping[str, Sequence[Point]] | None = None,
    notes: str = "",
) -> Calibration:
    """Fit every core type that has points, with the errors that its estimates must own up to.

    `held_out` points are never fitted; a core type with enough of them has an interval that covers their errors too.
    """
    fitted = {}
    errors = {}
    few: list[Held] = []
    for core, of_core in sorted(points.items()):
        if not of_core:
            continue
        fitted[core] = Fitted(
            fit_core(points, core),
            len(of_core),
            tuple(sorted({point.group for point in of_core})),
            tuple(devices.get(core, ())),
            _span(of_core),
        )
        held = leave_one_group_out(points, core)
        if len(held) >= _ENOUGH_POINTS:
            errors[core] = interval(held, "other groups of the same core type")
        else:
            few += held
        apart = (held_out or {}).get(core, ())
        if len(apart) >= _ENOUGH_HELD_OUT:
            held_apart = _held(apart, core, fitted[core].parameters)
            wider = interval(held_apart, "measurements kept apart from the start", by_group=False)
            errors[core] = _at_least(wider, errors.get(core, wider))
    everywhere = [held for core in sorted(fitted) for held in leave_one_core_out(points, core)]
    nothing = [held for core in sorted(fitted) for held in without_measurements(points[core], core)]
    # Core types with few points share their errors.
    whose = few or [held for core in sorted(fitted) for held in leave_one_group_out(points, core)]
    errors["calibrated"] = interval(whose, "other groups of the same core type, core types with few together")
    alone = interval(nothing, "no measurement: the priors alone")
    # With one core type measured, nothing tells how well parameters travel: as well as none at all, then.
    moved = interval(everywhere, "other core types") if everywhere else alone
    errors["transferred"] = _at_least(moved, errors["calibrated"])
    errors["uncalibrated"] = _at_least(alone, errors["transferred"])
    return Calibration(COVERAGE, fitted, errors, tables_digest(), notes=notes)


def interval(held: Sequence[Held], basis: str, *, by_group: bool = True) -> Errors:
    """The factor that covers `COVERAGE` of errors like these, by group or by point. ValueError without any."""
    if not held:
        raise ValueError(f"no left-out measurement to take an interval from ({basis})")
    keys = [(h.core, h.group if by_group else h.name) for h in held]
    groups = Counter(keys)
    ordered = sorted((abs(h.log_error), 1 / groups[key] / len(groups)) for h, key in zip(held, keys, strict=True))
    level = COVERAGE * (1 + 1 / len(held))
    if level > 1:
        size = ordered[-1][0] * _FEW_WIDENING
        basis = f"{basis}; {len(held)} are too few for a quantile: the largest error, widened"
    else:
        reached, size = 0.0, ordered[-1][0]
        for error, weight in ordered:
            reached += weight
            if reached >= level - 1e-12:
                size = error
                break
    return Errors(max(math.exp(size), _NARROWEST), len(held), len(groups), f"errors on what was left out: {basis}")


def _at_least(errors: Errors, other: Errors) -> Errors:
    if errors.factor >= other.factor:
        return errors
    return Errors(other.factor, errors.points, errors.groups, f"{errors.basis}; not narrower than with more knowledge")


def _start(points: Mapping[str, Sequence[Point]], core: str) -> Parameters | None:
    """The fit of the best measured core type of the same order, for one that has few points; None: the priors."""
    if len(points.get(core, ())) >= _ENOUGH_POINTS:
        return None
    order = load_core(core).in_order
    rich = [name for name in points if name != core and load_core(name).in_order == order]
    rich = [name for name in rich if len(points[name]) >= _ENOUGH_POINTS]
    if not rich:
        return None
    best = max(rich, key=lambda name: (len(points[name]), name))
    return fit(points[best], load_core(best))


def _held(points: Sequence[Point], core: str, parameters: Parameters) -> list[Held]:
    return [Held(p.name, p.group, core, p.measured_ms, predict_ms(p.terms, parameters)) for p in points]


def _span(points: Sequence[Point]) -> Span:
    sizes = [point.terms.instructions / max(point.terms.operators, 1) for point in points]
    moved = [point.terms.memory_bytes / point.terms.compute_cycles for point in points]
    return Span(min(sizes), max(sizes), max(moved))
