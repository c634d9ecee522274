"""Metrics of real values and of embeddings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Figures, Unfit
from pocketforge.accuracy.exact import Value, ratio
from pocketforge.accuracy.ranked import equal_error_rate

NEAREST = (1, 5, 10)
# Pairs are the square of it, and sorted.
MOST_IN_PAIRS = 4000
_BLOCK = 256


class RegressionTally:
    """Real numbers, (n, …), against `value` of as many numbers a sample."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.answered: list[Array] = []
        self.wanted: list[Array] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        answered, wanted = np.asarray(predictions), np.asarray(targets[self.target])
        flat = [array.reshape(len(array), -1) for array in (answered, wanted)]
        if flat[0].shape != flat[1].shape:
            raise Unfit(f"it has shape {list(answered.shape[1:])}, the targets have {list(wanted.shape[1:])}")
        self.answered.append(flat[0])
        self.wanted.append(flat[1])

    def figures(self, wanted: Collection[str]) -> Figures:
        answered, truth = np.concatenate(self.answered), np.concatenate(self.wanted)
        values: dict[str, Value] = dict(_errors(*(a.astype(np.float64) for a in (answered, truth))))
        why: dict[str, str] = {}
        if "spearman" in wanted:
            values["spearman"], why = _spearman(answered, truth)
        if "cosine" in wanted:
            values["cosine"] = _cosine(answered, truth)
            why |= {"cosine": "a target is a vector of zeros"} if math.isnan(float(values["cosine"])) else {}
        return Figures(values, {}, len(truth), why)


def _errors(outputs: Array, targets: Array) -> dict[str, float]:
    """What is no number is infinitely far from its target. r2 and correlation (Pearson's) are each value's own,
    averaged: an offset says nothing of whether answers follow the targets. Targets that never change are explained
    wholly (r2 1) or not at all, and correlate with nothing.
    """
    if not np.isfinite(outputs).all():
        worst = {"r2": -math.inf, "correlation": -1.0}
        return {"mean_absolute_error": math.inf, "root_mean_square_error": math.inf, **worst}
    difference = outputs - targets
    noise = (difference**2).sum(0)
    about = [a - a.mean(0) for a in (outputs, targets)]
    of_outputs, of_targets = ((a**2).sum(0) for a in about)
    explained = np.where(of_targets > 0, 1 - noise / np.where(of_targets > 0, of_targets, 1), noise == 0)
    both = np.sqrt(of_outputs * of_targets)
    correlation = np.where(both > 0, (about[0] * about[1]).sum(0) / np.where(both > 0, both, 1), 0.0)
    return {
        "mean_absolute_error": float(np.abs(difference).mean()),
        "root_mean_square_error": float(np.sqrt((difference**2).mean())),
        "r2": float(explained.mean()),
        "correlation": float(correlation.mean()),
    }


def _spearman(answered: Array, truth: Array) -> tuple[float, dict[str, str]]:
    """Each value's own, averaged over those whose targets change; 0 of answers that never do."""
    from scipy import stats

    each = []
    for one, other in zip(answered.T, truth.T, strict=True):
        if np.ptp(other) == 0:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant answers
            found = float(stats.spearmanr(one, other).statistic)
        each.append(0.0 if math.isnan(found) else found)
    return (float(np.mean(each)), {}) if each else (math.nan, {"spearman": "no target changes from sample to sample"})


def _cosine(answered: Array, truth: Array) -> float:
    """Mean over samples; NaN where a target is of zeros."""
    one, other = answered.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not np.linalg.norm(other, axis=1).all():
        return math.nan
    return float(np.where(lengths > 0, (one * other).sum(1) / np.where(lengths > 0, lengths, 1), 0.0).mean())


class EmbeddingTally:
    """Vectors, (n, size), against `label`: near by cosine are those of the same label. Or `value`: the vector."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.vectors: list[Array] = []
        self.wanted: list[Array] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        vectors = np.asarray(predictions)
        self.vectors.append(vectors.reshape(len(vectors), -1).astype(np.float64))
        self.wanted.append(np.asarray(targets[self.target]))

    def figures(self, wanted: Collection[str]) -> Figures:
        vectors, truth = np.concatenate(self.vectors), np.concatenate(self.wanted)
        if truth.ndim > 1 or truth.dtype.kind == "f":
            return self._against_vectors(vectors, truth, wanted)
        if "cosine" in wanted:
            raise Unfit('cosine is against a vector: target = "value" (recall and EER are against labels)')
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(lengths > 0, lengths, 1)
        values, judged = _recalls(unit, truth)
        why = {} if judged else dict.fromkeys(values, "no label has two eval samples")
        if "eer" in wanted:
            values["eer"] = _pairs_error(unit, truth)
            if math.isnan(float(values["eer"])):
                why["eer"] = "wanted pairs of one label and pairs of two"
        return Figures(values, {}, judged, why)

    def _against_vectors(self, vectors: Array, truth: Array, wanted: Collection[str]) -> Figures:
        others = sorted(set(wanted) - {"cosine"})
        if others:
            raise Unfit(f"{', '.join(others)}: against labels, and target {self.target!r} holds vectors")
        flat = truth.reshape(len(truth), -1)
        if flat.shape != vectors.shape:
            raise Unfit(f"it has {vectors.shape[1]} values, the targets have {flat.shape[1]}")
        return Figures({"cosine": _cosine(vectors, flat)}, {}, len(flat), {"cosine": "a target is a vector of zeros"})


def _recalls(unit: Array, labels: Array) -> tuple[dict[str, Value], int]:
    """Share of samples with one of their label among the k nearest others; samples alone with theirs are left out.

    Equally near ones are taken in the samples' order.
    """
    numbers, counts = np.unique(labels, return_counts=True)
    able = np.isin(labels, numbers[counts > 1])
    found = dict.fromkeys(NEAREST, 0)
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        near = unit[rows] @ unit.T
        near[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-near, axis=1, kind="stable")[:, : max(NEAREST)]
        same = labels[order] == labels[rows, None]
        for k in NEAREST:
            found[k] += int((same[:, :k].any(1) & able[rows]).sum())
    judged = int(able.sum())
    return {f"recall_at_{k}": ratio(found[k], judged) for k in NEAREST}, judged


def _pairs_error(unit: Array, labels: Array) -> Value:
    """EER of telling pairs of one label from pairs of two by their cosine."""
    if len(unit) > MOST_IN_PAIRS:
        raise Unfit(f"eer is of all pairs: wanted at most {MOST_IN_PAIRS:,} eval samples, found {len(unit):,}")
    first, second = np.triu_indices(len(unit), 1)
    near = (unit @ unit.T)[first, second]
    return equal_error_rate(near, labels[first] == labels[second])
