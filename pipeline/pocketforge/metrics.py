"""Accuracy of outputs against labels, and parity of outputs against reference outputs. NumPy only.

Shapes: outputs and references (N, …) with N samples first; for classification (N, classes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.parts import PERFECT_SQNR_DB as PERFECT_SQNR_DB
from pocketforge.parts import compare

Array = NDArray[Any]


def real_values(outputs: Array, scale: float | None, zero_point: int | None) -> Array:
    """Integer outputs as the float32 values that they stand for; others, and those without a scale, as they are."""
    if not scale or outputs.dtype.kind not in "iu":
        return outputs
    return ((outputs.astype(np.float64) - (zero_point or 0)) * scale).astype(np.float32)


def accuracy(outputs: Array, targets: Array, task: str) -> dict[str, float]:
    """Every metric of the task, by its name in the recipe."""
    if task == "regression":
        difference = outputs.reshape(len(outputs), -1).astype(np.float64) - targets.reshape(len(targets), -1)
        return {
            "mean_absolute_error": float(np.abs(difference).mean()),
            "root_mean_square_error": float(np.sqrt((difference**2).mean())),
        }
    scores = outputs.reshape(len(outputs), -1)
    predicted = scores.argmax(1)
    top5 = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return {
        "accuracy_top1": float((predicted == targets).mean()),
        "accuracy_top5": float((top5 == targets[:, None]).any(1).mean()),
        "macro_f1": _macro_f1(predicted, targets),
    }


def _macro_f1(predicted: Array, targets: Array) -> float:
    """Mean over the classes that occur in the targets of 2·TP / (2·TP + FP + FN)."""
    scores = []
    for label in np.unique(targets):
        hit = int(((predicted == label) & (targets == label)).sum())
        wrong = int(((predicted == label) != (targets == label)).sum())
        scores.append(2 * hit / (2 * hit + wrong))
    return float(np.mean(scores))


def drop(before: float, after: float, samples: int) -> float:
    """How much lower a share of samples is: counted in samples, since 0.88 - 0.86 is more than 0.02 in floats."""
    return (round(before * samples) - round(after * samples)) / samples


def parity(outputs: Array, reference: Array, *, classes: bool = False) -> dict[str, float]:
    """How near outputs are to the reference's. classes: they are the scores of a classifier.

    max_abs_diff: largest absolute difference. max_diff_ratio: that over the reference's largest magnitude, or over a
    channel's largest range where that is less. sqnr_db: 10·log10(Σ (reference - its channel's mean)² / Σ (reference -
    output)²), signal to quantization noise ratio; of class scores the mean is that of all. argmax_agreement: share of
    samples with the same largest entry.
    """
    found = compare(outputs, reference, classes=classes)
    return {
        "max_abs_diff": found.max_abs_diff,
        "max_diff_ratio": found.max_diff_ratio,
        "sqnr_db": found.sqnr_db,
        "argmax_agreement": argmax_agreement(outputs, reference),
    }


def argmax_agreement(outputs: Array, reference: Array) -> float:
    """Share of samples with the same largest entry; none where anything is not finite."""
    if not (np.isfinite(outputs).all() and np.isfinite(reference).all()):
        return 0.0
    flat, wanted = outputs.reshape(len(outputs), -1), reference.reshape(len(reference), -1)
    return float((flat.argmax(1) == wanted.argmax(1)).mean())


def equal_share(outputs: Array, reference: Array) -> float:
    """Of integers and booleans: the share of equal values."""
    return float((outputs == reference).mean()) if outputs.size else 1.0
