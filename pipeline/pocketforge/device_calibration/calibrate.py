"""Fit every core type to measurements, and say how far off the result is on what it was not fitted on.

What is fitted, what is held out and what is only reported was decided before the first fit:
- blocks and operators: fitted or held out by hash (`sampling.split`);
- whole models: fitted (there are one to three a core type), judged by leaving out their device;
- every device with blocks: judged without any measurement of it as well, all its points alike (`judging.py`);
- rows whose source does not say which kernels ran: never fitted, only reported;
- a superseded row ("before" a kernel was added that today's library has) is left out altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pocketforge.device_calibration import errors, judging
from pocketforge.device_calibration.baselines import BASELINES
from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.errors import Predictor, Ratio, Share, Summary
from pocketforge.device_calibration.judging import MODEL, by, by_core, predictor
from pocketforge.device_calibration.sampling import split, split_hash
from pocketforge.estimation import interval
from pocketforge.estimation.calibration_file import Calibration, kind_of
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import Parameters, default_parameters, predict_ms


@dataclass(frozen=True, slots=True)
class Groups:
    """The samples by what is done with them.

    Attributes:
        fitted: The constants are fitted to these.
        held_out: Never fitted; the errors on them are the result.
        reported: Never fitted, as nobody knows which kernels ran; their errors are told apart.
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
        shares: What intervals hold, and of how many pairs the faster one is known.
        models: Whole models, each without its device.
        ratios: Whole models in two precisions.
        split: SHA-256 of the names that are held out.
    """

    calibration: Calibration
    groups: Groups
    summaries: list[Summary]
    shares: list[Share]
    models: list[LeftOut]
    ratios: list[Ratio]
    split: str

    def to_json(self) -> dict[str, object]:
        """What `device calibrate --json` prints."""
        return {
            "calibration": self.calibration.to_json(),
            "points": {
                "fitted": [s.label for s in self.groups.fitted],
                "held_out": [s.label for s in self.groups.held_out],
                "reported": [s.label for s in self.groups.reported],
            },
            "split": self.split,
            "errors": [s.to_json() for s in self.summaries],
            "shares": [asdict(share) for share in self.shares],
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
        if "kernels unknown" in s.measurement.note:
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
    points = {core: [s.point() for s in of_core] for core, of_core in by_core(groups.fitted).items()}
    held_out = {core: [s.point() for s in of_core] for core, of_core in by_core(groups.held_out).items()}
    devices = {
        core: sorted({s.measurement.device for s in of_core}) for core, of_core in by_core(groups.fitted).items()
    }
    calibration = interval.calibrate(points, devices, held_out=held_out, notes=notes)
    chosen = {core: fitted.parameters for core, fitted in calibration.cores.items()}
    summaries = []
    shares: list[Share] = []
    for core, of_core in by_core(groups.held_out).items():
        trained = [s for s in groups.fitted if s.measurement.core == core]
        found, told = _judged(core, trained, of_core, chosen[core])
        summaries += found
        shares += told
    left = judging.without_each_device(groups.fitted, groups.held_out)
    summaries += left.summaries
    shares += [*left.shares, *judging.coverages(calibration, groups.held_out)]
    summaries += judging.without_each_family(groups.fitted, groups.held_out)
    for core, of_core in by_core(groups.reported).items():
        predict = predictor(calibration.choose(load_core(core)).parameters)
        for what, members in by(of_core, lambda s: f"{s.measurement.family}, {s.kernels}").items():
            summaries.append(errors.of_points(f"{core}: only reported: {what}", MODEL, members, predict))
    models, judged = _left_out_models(groups.fitted)
    summaries += judged
    everything = _predictor_of(calibration)
    ratios = errors.across_precisions([s for s in groups.fitted if s.measurement.kind == "model"], everything)
    split = split_hash([s.measurement for s in samples])
    return Calibrated(calibration, groups, summaries, shares, models, ratios, split)


def _judged(
    core: str, trained: list[Sample], held: list[Sample], parameters: Parameters
) -> tuple[list[Summary], list[Share]]:
    """Errors of one core type's fit: on what was fitted, on what was held out, its families; baselines."""
    fitted = predictor(parameters)
    summaries = [errors.of_points(f"{core}: fitted points", MODEL, trained, fitted)]
    shares = []
    predictors = {MODEL: fitted, **{name: make(trained) for name, make in BASELINES.items()}}
    for name, predict in predictors.items():
        summaries.append(errors.of_points(f"{core}: held-out points", name, held, predict))
    for name, predict in predictors.items():
        ratio = errors.of_ratios(f"{core}: held-out ratios (width)", name, held, predict)
        summaries += [ratio] if ratio else []
        sign = errors.of_signs(f"{core}: which of two held-out widths is faster (5 % or more)", name, held, predict)
        shares += [sign] if sign else []
    for what, members in by(held, lambda s: s.measurement.family).items():
        summaries.append(errors.of_points(f"{core}: held-out, {what}", MODEL, members, fitted))
    return summaries, shares


def _left_out_models(fitted: Sequence[Sample]) -> tuple[list[LeftOut], list[Summary]]:
    """Each whole model predicted without any measurement of its device; then by order of the core."""
    models = []
    ratios: dict[str, list[float]] = {}
    for s in fitted:
        if s.measurement.kind != "model":
            continue
        device = s.point().device
        rest = [o for o in fitted if o.point().device != device]
        core = s.measurement.core
        known = judging.known(rest, core)
        predicted = predict_ms(s.terms, known or default_parameters(load_core(core)))
        models.append(LeftOut(s.label, s.measurement.device, s.measurement.latency_ms, predicted))
        ratios.setdefault(kind_of(load_core(core)), []).append(predicted / s.measurement.latency_ms)
    return models, [
        errors.summarize(f"whole models, their device left out: {kind}", MODEL, of_kind)
        for kind, of_kind in sorted(ratios.items())
    ]


def _predictor_of(calibration: Calibration) -> Predictor:
    return lambda s: predict_ms(s.terms, calibration.choose(load_core(s.measurement.core)).parameters)
