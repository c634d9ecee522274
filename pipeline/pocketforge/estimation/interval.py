"""How far off the estimates are: errors on what was left out of the fit, and from them the width of an interval.

Three questions are asked of the measurements, each by leaving out what the answer must not have seen:
- calibrated: one group (architecture or family of blocks) at a time, fitted on the rest of the same core type's;
- transferred: one whole device at a time, predicted with what the measured core types of its kind share;
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
from dataclasses import dataclass, replace

from pocketforge.estimation.calibration_file import Calibration, Errors, Fitted, Span, kind_of
from pocketforge.estimation.core_model import load_core, tables_digest
from pocketforge.estimation.fitting import Parameters, Point, default_parameters, fit, fit_shared, predict_ms

COVERAGE = 0.9
_FEW_WIDENING = 1.5  # of the log error, where there are too few measurements for a quantile
_NARROWEST = 1.05
_ENOUGH_HELD_OUT = 10
_ENOUGH_POINTS = 16  # twice the parameters


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


def fit_all(points: Mapping[str, Sequence[Point]]) -> tuple[dict[str, Parameters], dict[str, Parameters]]:
    """(core type → its parameters, kind → what its core types share) from every core type's points."""
    kinds: dict[str, dict[str, Sequence[Point]]] = {}
    for core, of_core in sorted(points.items()):
        if of_core:
            kinds.setdefault(kind_of(load_core(core)), {})[core] = of_core
    shared = {kind: fit_shared(cores, in_order=kind == "in-order") for kind, cores in kinds.items()}
    fitted = {
        core: fit(of_core, load_core(core), shared[kind])
        for kind, cores in kinds.items()
        for core, of_core in cores.items()
    }
    return fitted, shared


def leave_one_group_out(points: Mapping[str, Sequence[Point]], core: str) -> list[Held]:
    """Every point of a core type predicted without its group, which is left out of all core types."""
    held = []
    for group in sorted({point.group for point in points[core]}):
        rest = {name: [p for p in of_core if p.group != group] for name, of_core in points.items()}
        left_out = [point for point in points[core] if point.group == group]
        held += _held(left_out, core, _known(rest, core))
    return held


def leave_one_device_out(points: Mapping[str, Sequence[Point]], extra: Sequence[Point] = ()) -> list[Held]:
    """Every point predicted without any measurement of its device; none where no other device has its kind of core.

    extra: Points that are predicted likewise, and fitted nowhere, by the device that they name.
    """
    held = []
    devices = sorted({point.device for of_core in points.values() for point in of_core})
    for device in devices:
        rest = {core: [p for p in of_core if p.device != device] for core, of_core in points.items()}
        fitted, shared = fit_all(rest)
        for core, of_core in sorted(points.items()):
            left_out = [p for p in (*of_core, *extra) if p.device == device and (p.core or core) == core]
            known = fitted.get(core) or shared.get(kind_of(load_core(core)))
            if known is not None:
                held += _held(left_out, core, known)
    return held


def _known(points: Mapping[str, Sequence[Point]], core: str) -> Parameters:
    """What a core type is predicted with, had only these been measured."""
    fitted, shared = fit_all(points)
    model = load_core(core)
    return fitted.get(core) or shared.get(kind_of(model)) or default_parameters(model)


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
    known, shared = fit_all(points)
    fitted = {}
    errors = {}
    few: list[Held] = []
    for core, parameters in sorted(known.items()):
        of_core = points[core]
        groups = tuple(sorted({point.group for point in of_core}))
        fitted[core] = Fitted(parameters, len(of_core), groups, tuple(devices.get(core, ())), _span(of_core))
        held = leave_one_group_out(points, core)
        if len(held) >= _ENOUGH_POINTS:
            errors[core] = interval(held, "other groups of the same core type")
        else:
            few += held
        apart = (held_out or {}).get(core, ())
        if len(apart) >= _ENOUGH_HELD_OUT:
            held_apart = _held(apart, core, parameters)
            wider = interval(held_apart, "measurements kept apart from the start", by_group=False)
            errors[core] = _at_least(wider, errors.get(core, wider))
    everywhere = leave_one_device_out(points)
    nothing = [held for core in sorted(fitted) for held in without_measurements(points[core], core)]
    alone = interval(nothing, "no measurement: the priors alone")
    # With one device measured, nothing tells how well parameters travel: as well as none at all, then.
    moved = interval(everywhere, "other devices") if everywhere else alone
    # Core types with few points share their errors; too few of these, and they are as one without any.
    if len(few) >= _ENOUGH_POINTS or not everywhere:
        whose = few or [held for core in sorted(fitted) for held in leave_one_group_out(points, core)]
        errors["calibrated"] = interval(whose, "other groups of the same core type, core types with few together")
    else:
        errors["calibrated"] = replace(moved, basis=f"{moved.basis}; with a few measurements as with none")
    errors["transferred"] = _at_least(moved, errors["calibrated"])
    # Few in-order cores were measured, and out-of-order ones do not speak for them.
    for kind in shared if everywhere else ():
        of_kind = [held for held in everywhere if kind_of(load_core(held.core)) == kind]
        if of_kind:
            own = interval(of_kind, f"other devices, {kind}")
            errors[f"transferred, {kind}"] = _at_least(own, errors["transferred"])
    widest = max((errors[name] for name in errors if name.startswith("transferred")), key=lambda each: each.factor)
    errors["uncalibrated"] = _at_least(alone, widest)
    return Calibration(COVERAGE, fitted, shared, errors, tables_digest(), notes=notes)


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


def _held(points: Sequence[Point], core: str, parameters: Parameters) -> list[Held]:
    return [Held(p.name, p.group, core, p.measured_ms, predict_ms(p.terms, parameters)) for p in points]


def _span(points: Sequence[Point]) -> Span:
    sizes = [point.terms.instructions / max(point.terms.operators, 1) for point in points]
    moved = [point.terms.memory_bytes / point.terms.compute_cycles for point in points]
    return Span(min(sizes), max(sizes), max(moved))
