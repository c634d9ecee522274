"""Predictions without a device or a family: what an estimate of a phone that nobody measured is worth.

A device that is left out is left out whole: blocks, operators and models, fitted and held out. Its points are then
predicted as the product would (`known`), with what the other devices' fitted points alone tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pocketforge.device_calibration import errors
from pocketforge.device_calibration.baselines import BASELINES
from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.errors import Predictor, Share, Summary
from pocketforge.estimation import interval
from pocketforge.estimation.calibration_file import Calibration, kind_of
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import Parameters, Point, default_parameters, predict_ms

MODEL = "pocketforge"
_FEW = 10
"""Points of a device, below which it is not judged by itself."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found.

    Attributes:
        summaries: Errors.
        shares: What intervals hold, and signs.
    """

    summaries: list[Summary]
    shares: list[Share]


def without_each_device(fitted: Sequence[Sample], held_out: Sequence[Sample]) -> Judged:
    """Each device with blocks or operators, predicted from the others; then all of them together, and by family."""
    summaries: list[Summary] = []
    shares: list[Share] = []
    every: dict[str, list[tuple[Sample, float]]] = {}
    inside: list[bool] = []
    everything = [s for s in (*fitted, *held_out) if s.measurement.kind != "model"]
    for device, members in by(everything, lambda s: s.point().device).items():
        rest = [s for s in fitted if s.point().device != device]
        core = members[0].measurement.core
        parameters = known(rest, core)
        if len(members) < _FEW or parameters is None:
            continue
        methods = {MODEL: predictor(parameters), **{name: make(rest) for name, make in BASELINES.items()}}
        for name, predict in methods.items():
            found = [(s, predict(s)) for s in members]
            every.setdefault(name, []).extend(found)
            summaries.append(_summary(f"{device} ({core}) left out", name, found))
        ratio = errors.of_ratios(f"{device} left out: ratios (width)", MODEL, members, methods[MODEL])
        sign = errors.of_signs(f"{device} left out: which of two widths is faster", MODEL, members, methods[MODEL])
        summaries += [ratio] if ratio else []
        shares += [sign] if sign else []
        factor = _factor(rest)
        if factor:
            holds = _inside(members, methods[MODEL], factor)
            inside += holds
            shares.append(_share(f"{device} left out: the interval holds (× ÷ {factor:.2f})", holds))
    if inside:
        shares.append(_share("every device left out: the interval holds", inside))
    for name, found in every.items():
        summaries.append(_summary("every device left out", name, found))
    for what, of_family in by([s for s, _ in every.get(MODEL, [])], lambda s: s.measurement.family).items():
        chosen = {id(s) for s in of_family}
        summaries.append(
            _summary(f"every device left out, {what}", MODEL, [(s, ms) for s, ms in every[MODEL] if id(s) in chosen])
        )
    return Judged(summaries, shares)


def without_each_family(fitted: Sequence[Sample], held_out: Sequence[Sample]) -> list[Summary]:
    """Each family left out of all devices, and predicted on all of them."""
    everything = [s for s in (*fitted, *held_out) if s.measurement.kind != "model"]
    found: dict[str, list[tuple[Sample, float]]] = {}
    summaries = []
    for family, members in by(everything, lambda s: s.measurement.family).items():
        rest = [s for s in fitted if s.measurement.family != family]
        of_family: list[tuple[Sample, float]] = []
        for core, of_core in by_core(members).items():
            parameters = known(rest, core) or default_parameters(load_core(core))
            of_family += [(s, predict_ms(s.terms, parameters)) for s in of_core]
            here = [s for s in rest if s.measurement.core == core]
            for name, make in BASELINES.items() if here else ():
                predict = make(here)
                found.setdefault(name, []).extend((s, predict(s)) for s in of_core)
        found.setdefault(MODEL, []).extend(of_family)
        summaries.append(_summary(f"{family} left out", MODEL, of_family))
    for name in (MODEL, *BASELINES):
        if name in found:
            summaries.append(_summary("each family left out", name, found[name]))
    return summaries


def coverages(calibration: Calibration, held_out: Sequence[Sample]) -> list[Share]:
    """Of held-out points: the share inside of the interval that their core type's estimates carry."""
    shares = []
    for core, of_core in by_core(held_out).items():
        chosen = calibration.choose(load_core(core))
        holds = _inside(of_core, predictor(chosen.parameters), chosen.errors.factor)
        shares.append(_share(f"{core}: held-out points inside of its interval (× ÷ {chosen.errors.factor:.2f})", holds))
    return shares


def known(samples: Sequence[Sample], core: str) -> Parameters | None:
    """What the product would predict `core` with, had only `samples` been measured; None: nothing of its kind was."""
    parameters, shared = interval.fit_all(_points(samples))
    return parameters.get(core) or shared.get(kind_of(load_core(core)))


def predictor(parameters: Parameters) -> Predictor:
    return lambda s: predict_ms(s.terms, parameters)


def by_core(samples: Sequence[Sample]) -> Mapping[str, list[Sample]]:
    return by(samples, lambda s: s.measurement.core)


def by(samples: Sequence[Sample], key: Callable[[Sample], str]) -> Mapping[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        groups.setdefault(key(s), []).append(s)
    return dict(sorted(groups.items()))


def _factor(samples: Sequence[Sample]) -> float:
    """Of the interval that estimates of a device without measurements would carry, from these alone; 0 for none."""
    held = interval.leave_one_device_out(_points(samples))
    return interval.interval(held, "other devices").factor if held else 0.0


def _points(samples: Sequence[Sample]) -> dict[str, list[Point]]:
    return {core: [s.point() for s in of_core] for core, of_core in by_core(samples).items()}


def _inside(samples: Sequence[Sample], predict: Predictor, factor: float) -> list[bool]:
    return [1 / factor <= predict(s) / s.measurement.latency_ms <= factor for s in samples]


def _share(what: str, holds: Sequence[bool]) -> Share:
    return Share(what, MODEL, len(holds), sum(holds) / len(holds))


def _summary(what: str, method: str, found: Sequence[tuple[Sample, float]]) -> Summary:
    return errors.summarize(what, method, [ms / s.measurement.latency_ms for s, ms in found])
