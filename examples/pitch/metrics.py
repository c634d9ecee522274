"""Raw pitch accuracy, the field's metric: the share of frames within 50 cents (half a semitone) of the true pitch."""

from collections.abc import Mapping

import numpy as np

CENTS_PER_BIN, FIRST_BIN_CENTS = 20, 1997.3794084376191


def raw_pitch_accuracy(outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> float:
    found = cents(outputs["output"])
    true = FIRST_BIN_CENTS + CENTS_PER_BIN * targets["label"]
    return float(np.mean(np.abs(found - true) <= 50))


def cents(sureness: np.ndarray) -> np.ndarray:
    """Over 10 Hz: the mean of the bins around the surest, each by how sure it is (torchcrepe's weighted_argmax)."""
    best = sureness.argmax(1)
    near = np.clip(best[:, None] + np.arange(-4, 5), 0, sureness.shape[1] - 1)
    weights = np.take_along_axis(sureness, near, 1)
    return FIRST_BIN_CENTS + CENTS_PER_BIN * (weights * near).sum(1) / weights.sum(1)
