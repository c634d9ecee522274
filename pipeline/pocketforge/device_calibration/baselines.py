"""What an estimate has to beat: three simple predictors, fitted on the same points as the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.errors import Predictor


def macs_and_size(fitted: Sequence[Sample]) -> Predictor:
    """cycles = a·MACs + b·bytes of weights and activations + c, each ≥ 0, least squares on relative errors.

    One (a, b, c) a precision and kernel library, as int8 and float32 MACs cost differently: three parameters each.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    constants: dict[tuple[str, str], NDArray[np.float64]] = {}
    for kind in sorted({_kind(s) for s in fitted}):
        members = [s for s in fitted if _kind(s) == kind]
        measured = np.array([_cycles(s) for s in members])
        rows = np.array([_size_row(s) for s in members])
        constants[kind], _ = nnls(rows / measured[:, None], np.ones(len(members)))
    pooled = sum(constants.values()) / len(constants)

    def predict(s: Sample) -> float:
        return float(_size_row(s) @ constants.get(_kind(s), pooled)) / (s.terms.clock_ghz * 1e6)

    return predict


def one_scalar(fitted: Sequence[Sample]) -> Predictor:
    """cycles = instructions × one constant: the median cycles per instruction of the fitted points."""
    constant = float(np.median([_cycles(s) / s.terms.instructions for s in fitted]))
    return lambda s: s.terms.instructions * constant / (s.terms.clock_ghz * 1e6)


def scoreboard_alone(_: Sequence[Sample]) -> Predictor:
    """The pipeline tables with nothing fitted: no memory, no overheads."""
    return lambda s: s.terms.compute_cycles / (s.terms.clock_ghz * 1e6)


BASELINES: dict[str, Callable[[Sequence[Sample]], Predictor]] = {
    "MACs + size, linear": macs_and_size,
    "instructions × one scalar": one_scalar,
    "scoreboard alone": scoreboard_alone,
}


def _kind(s: Sample) -> tuple[str, str]:
    return s.measurement.precision, s.kernels


def _cycles(s: Sample) -> float:
    return s.measurement.latency_ms * s.terms.clock_ghz * 1e6


def _size_row(s: Sample) -> NDArray[np.float64]:
    return np.array([s.macs, s.moved_bytes, 1.0])
