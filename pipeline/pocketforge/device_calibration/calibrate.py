"""Fit every core type to measurements, and say how far off the result is on what it was not fitted on.

What is fitted, what is held out and what is only reported was decided before the first fit:
- blocks and operators: fitted or held out by hash (`sampling.split`);
- whole models: fitted (there are one to three a core type), judged by leaving out their device;
- families whose operators XNNPACK did not have when they were measured, and rows whose source does not say which
  kernels ran: never fitted, only reported;
- a superseded row ("before" a kernel was added that today's library has) is left out altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from pocketforge.device_calibration import errors
from pocketforge.device_calibration.baselines import BASELINES
from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.errors import Predictor, Ratio, Summary
from pocketforge.device_calibration.sampling import split
from pocketforge.estimation import interval
from pocketforge.estimation.calibration_file import Calibration, Errors, Fitted, Span, Status
from pocketforge.estimation.core_model import load_core, tables_digest
from pocketforge.estimation.fitting import Parameters, fit, predict_ms

MODEL = "pocketforge"
# BATCH_MATMUL, RSQRT and MEAN over the last axis ran in TFLite's own kernels in 2022 and run in XNNPACK's today.
OTHER_KERNELS_THEN = ("transffn", "transattn")
_NO_ERRORS = Errors(1.0, 0, 0, "")
_NO_SPAN = Span(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Groups:
    """The samples by what is done with them.

    Attributes:
        fitted: The constants are fitted to these.
        held_out: Never fitted; the errors on them are the result.
        reported: Never fitted, as today's kernels are other ones; their errors are told apart.
    """

    fitted: list[Sample]
    held_out: list[Sample]
    reported: list[Sample]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A whole model, predicted without any measurement of its device.

    Attributes:
        point: The measurement.
        left_out: The device.
        measured_ms: Its latency.
        estimated_ms: Its latency as estimated.
    """

    point: str
    left_out: str
    measured_ms: float
    estimated_ms: float

    @property
    def ratio(self) -> float:
        """Estimated over measured."""
        return self.estimated_ms / self.measured_ms


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and how far off it is.

    Attributes:
        calibration: What was fitted.
        groups: To what.
        summaries: Errors, a line each.
        models: Whole models, each without its device.
        ratios: Whole models in two precisions.
    """

    calibration: Calibration
    groups: Groups
    summaries: list[Summary]
    models: list[LeftOut]
    ratios: list[Ratio]

    def to_json(self) -> dict[str, object]:
        """What `device calibrate --json` prints."""
        return {
            "calibration": self.calibration.to_json(),
            "points": {
                "fitted": [s.label for s in self.groups.fitted],
                "held_out": [s.label for s in self.groups.held_out],
                "reported": [s.label for s in self.groups.reported],
            },
            "errors": [s.to_json() for s in self.summaries],
            "models": [asdict(model) for model in self.models],
            "ratios": [asdict(ratio) for ratio in self.ratios],
        }


def grouped(samples: Sequence[Sample]) -> Groups:
    """What is fitted, held out and only reported."""
    held = {id(m) for m in split([s.measurement for s in samples])[1]}
    fitted: list[Sample] = []
    held_out: list[Sample] = []
    reported: list[Sample] = []
    for s in samples:
        if s.measurement.family in OTHER_KERNELS_THEN or "kernels unknown" in s.measurement.note:
            reported.append(s)
        elif id(s.measurement) in held:
            held_out.append(s)
        else:
            fitted.append(s)
    return Groups(fitted, held_out, reported)


def calibrate(samples: Sequence[Sample], notes: str = "") -> Calibrated:
    """Fit, and judge. Raises ValueError without any point to fit."""
    groups = grouped(samples)
    if not groups.fitted:
        raise ValueError("no measurement can be fitted")
    points = {core: [s.point() for s in of_core] for core, of_core in _by_core(groups.fitted).items()}
    held_out = {core: [s.point() for s in of_core] for core, of_core in _by_core(groups.held_out).items()}
    devices = {
        core: sorted({s.measurement.device for s in of_core}) for core, of_core in _by_core(groups.fitted).items()
    }
    calibration = interval.calibrate(points, devices, held_out=held_out, notes=notes)
    chosen = {core: fitted.parameters for core, fitted in calibration.cores.items()}
    summaries = []
    for core, of_core in _by_core(groups.held_out).items():
        trained = [s for s in groups.fitted if s.measurement.core == core]
        summaries += _judged(core, trained, of_core, chosen[core])
    for core, of_core in _by_core(groups.reported).items():
        predict = _predictor(calibration.choose(load_core(core)).parameters)
        for what, members in _by(of_core, lambda s: f"{s.measurement.family}, {s.kernels}").items():
            summaries.append(errors.of_points(f"{core}: only reported: {what}", MODEL, members, predict))
    models, judged = _left_out_models(groups.fitted)
    summaries += judged
    everything = _predictor_of(calibration)
    ratios = errors.across_precisions([s for s in groups.fitted if s.measurement.kind == "model"], everything)
    return Calibrated(calibration, groups, summaries, models, ratios)


def _judged(core: str, trained: list[Sample], held: list[Sample], parameters: Parameters) -> list[Summary]:
    """Errors of one core type's fit: on what was fitted, on what was held out, each family left out; baselines."""
    fitted = _predictor(parameters)
    summaries = [errors.of_points(f"{core}: fitted points", MODEL, trained, fitted)]
    predictors = {MODEL: fitted, **{name: make(trained) for name, make in BASELINES.items()}}
    for name, predict in predictors.items():
        summaries.append(errors.of_points(f"{core}: held-out points", name, held, predict))
    for name, predict in predictors.items():
        ratio = errors.of_ratios(f"{core}: held-out ratios (width)", name, held, predict)
        summaries += [ratio] if ratio else []
    for what, members in _by(held, lambda s: s.measurement.family).items():
        summaries.append(errors.of_points(f"{core}: held-out, {what}", MODEL, members, fitted))
    everything = trained + held
    for method, make in {MODEL: _fit_on(core), **BASELINES}.items():
        left: list[float] = []
        for family in sorted({s.measurement.family for s in everything}):
            rest = [s for s in trained if s.measurement.family != family]
            predict = make(rest)
            left += [predict(s) / s.measurement.latency_ms for s in everything if s.measurement.family == family]
        summaries.append(errors.summarize(f"{core}: each family left out", method, left))
    return summaries


def _left_out_models(fitted: Sequence[Sample]) -> tuple[list[LeftOut], list[Summary]]:
    """Each whole model predicted without any measurement of its device; then by order of the core."""
    models = []
    ratios: dict[str, list[float]] = {}
    for s in fitted:
        if s.measurement.kind != "model":
            continue
        rest = [o for o in fitted if o.measurement.device != s.measurement.device]
        core = s.measurement.core
        predicted = predict_ms(s.terms, _without(rest, core))
        models.append(LeftOut(s.label, s.measurement.device, s.measurement.latency_ms, predicted))
        kind = "in-order" if load_core(core).in_order else "out-of-order"
        ratios.setdefault(kind, []).append(predicted / s.measurement.latency_ms)
    return models, [
        errors.summarize(f"whole models, their device left out: {kind}", MODEL, of_kind)
        for kind, of_kind in sorted(ratios.items())
    ]


def _without(rest: Sequence[Sample], core: str) -> Parameters:
    """What the product would predict `core` with, had only `rest` been measured."""
    cores = {
        name: Fitted(fit([s.point() for s in members], load_core(name)), len(members), (), (), _NO_SPAN)
        for name, members in _by_core(rest).items()
    }
    names = get_args(Status)
    return (
        Calibration(interval.COVERAGE, cores, dict.fromkeys(names, _NO_ERRORS), tables_digest())
        .choose(load_core(core))
        .parameters
    )


def _fit_on(core: str) -> Callable[[Sequence[Sample]], Predictor]:
    return lambda samples: _predictor(fit([s.point() for s in samples], load_core(core)))


def _predictor(parameters: Parameters) -> Predictor:
    return lambda s: predict_ms(s.terms, parameters)


def _predictor_of(calibration: Calibration) -> Predictor:
    return lambda s: predict_ms(s.terms, calibration.choose(load_core(s.measurement.core)).parameters)


def _by_core(samples: Sequence[Sample]) -> Mapping[str, list[Sample]]:
    return _by(samples, lambda s: s.measurement.core)


def _by(samples: Sequence[Sample], key: Callable[[Sample], str]) -> Mapping[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        groups.setdefault(key(s), []).append(s)
    return dict(sorted(groups.items()))
