"""Accuracy of outputs against labels, and parity of outputs against reference outputs. NumPy only.

Shapes: outputs and references (N, …) with N samples first; for classification (N, classes).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# An SQNR for outputs without any difference: a finite number, so that JSON can hold it.
PERFECT_SQNR_DB = 200.0


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


def parity(outputs: Array, reference: Array) -> dict[str, float]:
    """How near outputs are to the reference's.

    max_abs_diff: largest absolute difference. max_diff_ratio: that over the reference's largest magnitude.
    sqnr_db: 10·log10(Σ reference² / Σ (reference - output)²), signal to quantization noise ratio.
    argmax_agreement: share of samples with the same largest entry.
    """
    wanted = reference.astype(np.float64)
    difference = outputs.astype(np.float64) - wanted
    if not np.isfinite(difference).all():
        return {"max_abs_diff": math.inf, "max_diff_ratio": math.inf, "sqnr_db": -math.inf, "argmax_agreement": 0.0}
    peak = float(np.abs(wanted).max())
    worst = float(np.abs(difference).max())
    noise, signal = float((difference**2).sum()), float((wanted**2).sum())
    sqnr = PERFECT_SQNR_DB if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)
    flat, flat_wanted = outputs.reshape(len(outputs), -1), reference.reshape(len(reference), -1)
    return {
        "max_abs_diff": worst,
        "max_diff_ratio": worst / peak if peak else (0.0 if worst == 0 else math.inf),
        "sqnr_db": min(sqnr, PERFECT_SQNR_DB),
        "argmax_agreement": float((flat.argmax(1) == flat_wanted.argmax(1)).mean()),
    }
