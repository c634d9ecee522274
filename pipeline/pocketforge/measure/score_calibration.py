"""A classifier's scores as readers of TFLite Metadata give them, after its calibration."""

from __future__ import annotations

import numpy as np

from pocketforge.metrics import Array
from pocketforge.recipe.score_calibration import ScoreCalibration

# Below it MediaPipe goes on with a logarithm mirrored at it, so that 0 and what is less have one.
_LEAST = 1e-16


def calibrated(scores: Array, calibration: ScoreCalibration) -> Array:
    """scores: [n, classes]. Raises ValueError for another number of classes than the calibration has."""
    rows = calibration.of_classes(scores.shape[1])
    if rows is None:
        raise ValueError(f"{len(calibration.curve)} rows for {scores.shape[1]} classes")
    given = np.asarray(scores, np.float64)
    if calibration.transformation == "identity":
        moved = given
    elif calibration.transformation == "log":
        moved = _log(given)
    else:
        moved = _log(given) - _log(1.0 - given)
    found = np.full(scores.shape, calibration.default, np.float32)
    for place, row in enumerate(rows.curve):
        if row:
            scale, slope, offset = row[:3]
            with np.errstate(over="ignore"):
                curve = scale / (1.0 + np.exp(-(slope * moved[:, place] + offset)))
            far = given[:, place] >= row[3] if len(row) > 3 else np.ones(len(given), bool)
            found[:, place] = np.where(far, curve, calibration.default)
    return found


def _log(values: Array) -> Array:
    small = values < _LEAST
    mirrored: Array = 2 * np.log(_LEAST) - np.log(2 * _LEAST - np.minimum(values, _LEAST))
    return np.where(small, mirrored, np.log(np.maximum(values, _LEAST)))
