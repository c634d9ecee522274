"""Metrics of class numbers and labels: top-k, F1, rankings. Integers are counted, ratios are made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Figures, Unfit
from pocketforge.accuracy.exact import Value, mean, ratio
from pocketforge.accuracy.ranked import auroc, average_precision, equal_error_rate

IGNORED_TAG = -100
_F1 = ("macro_f1", "micro_f1", "f1_worst_class")
RANKED = frozenset({"auroc", "average_precision"})


class Confusion:
    """True positives, and what was answered and what was wanted, of each class."""

    def __init__(self) -> None:
        self.hits = self.answered = self.wanted = np.zeros(0, np.int64)

    def add(self, hits: Array, answered: Array, wanted: Array) -> None:
        """Counts of a batch, by class number."""
        self.hits, self.answered, self.wanted = (
            _sum(so_far, more)
            for so_far, more in zip(
                (self.hits, self.answered, self.wanted), (hits, answered, wanted), strict=True
            )
        )  # fmt: skip

    def add_numbers(self, predicted: Array, targets: Array, classes: int) -> None:
        """Class numbers of as many things each; -1 is no answer."""
        hits, answered = targets[predicted == targets], predicted[predicted >= 0]
        self.add(*(np.bincount(each, minlength=classes) for each in (hits, answered, targets)))

    def f1(self) -> Figures:
        """F1 of each class that the targets have: 2·TP / (answered + wanted)."""
        occurs = np.flatnonzero(self.wanted)
        each = {int(k): ratio(2 * self.hits[k], self.answered[k] + self.wanted[k]) for k in occurs}
        values: dict[str, Value] = {
            "macro_f1": mean(each.values()),
            "micro_f1": ratio(2 * self.hits.sum(), self.answered.sum() + self.wanted.sum()),
            "f1_worst_class": min(each.values(), default=float("nan")),
        }
        return Figures(values, {"macro_f1": each}, int(self.wanted.sum()))

    def recall(self) -> dict[int, Value]:
        """Of each class that the targets have, the share that is answered right."""
        return {int(k): ratio(self.hits[k], self.wanted[k]) for k in np.flatnonzero(self.wanted)}


def _sum(one: Array, other: Array) -> Array:
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


_FIRST = 5


class LogitsTally:
    """Scores of exclusive classes, (n, classes), against `label`; or the classes' numbers, (n,), of a file that gives
    no scores: then what is made of more than the first answer is left out."""

    def __init__(self, target: str, *, ranked: bool, softmax: bool = False) -> None:
        """ranked: whether metrics of rankings are wanted, for which all scores are kept. softmax: they rank shares."""
        self.target, self.ranked, self.softmax, self.count, self.top1, self.top5 = target, ranked, softmax, 0, 0, 0
        self.confusion = Confusion()
        self.scores: list[Array] = []
        self.labels: list[Array] = []
        self.numbers, self.classes = False, 0

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        scores, labels = np.asarray(predictions), np.asarray(targets[self.target])
        if scores.ndim == 1 and scores.dtype.kind in "iu":
            self.numbers = True
            self.count += len(scores)
            self.top1 += int((scores == labels).sum())
            self.confusion.add_numbers(scores, labels, int(max(scores.max(initial=0), labels.max(initial=0))) + 1)
            return
        if scores.dtype.kind in "ub":  # whose negatives are none
            scores = scores.astype(np.int64)
        if scores.ndim != 2:
            raise Unfit(f"wanted [1, classes], found {[1, *scores.shape[1:]]}")
        classes = self.classes = scores.shape[1]
        if labels.max(initial=0) >= classes:
            raise Unfit(f"it has {classes} classes, and the data have a label {labels.max()}")
        # NaN is no answer: argmax takes it for the largest.
        answered = ~np.isnan(scores).any(1)
        predicted = np.where(answered, scores.argmax(1), -1)
        top5 = np.argsort(-scores, axis=1, kind="stable")[:, :_FIRST]
        self.count += len(scores)
        self.top1 += int((predicted == labels).sum())
        self.top5 += int(((top5 == labels[:, None]).any(1) & answered).sum())
        self.confusion.add_numbers(predicted, labels, classes)
        if self.ranked:
            self.scores.append(_log_shares(scores) if self.softmax else scores)
            self.labels.append(labels)

    def figures(self, wanted: Collection[str]) -> Figures:
        f1 = self.confusion.f1()
        values: dict[str, Value] = {
            "accuracy_top1": ratio(self.top1, self.count),
            **({} if self.numbers else {"accuracy_top5": ratio(self.top5, self.count)}),
            **f1.values,
        }
        classes, why = {**f1.classes, "accuracy_top1": self.confusion.recall()}, dict[str, str]()
        if self.ranked and self.scores:
            scores, labels = np.concatenate(self.scores), np.concatenate(self.labels)
            held = [(number, labels == number) for number in range(scores.shape[1])]
            ranked = rankings([(number, scores[:, number], holds) for number, holds in held])
            values |= ranked.values
            classes |= ranked.classes
            why |= ranked.why
        # Of five classes every one is among the first five.
        certain = frozenset({"accuracy_top5"} if self.classes <= _FIRST else ())
        return Figures(values, classes, self.count, why, certain)


def _log_shares(scores: Array) -> Array:
    """The logarithm of each row's softmax: in the order of the shares, and not all 1 where they are rounded to it."""
    exact = np.asarray(scores, np.float64)
    shifted = exact - exact.max(1, keepdims=True)
    logarithms: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    # Shares that are equal stay so, whatever the order of their rows' sums.
    return logarithms.round(12)


def rankings(columns: list[tuple[int, Array, Array]]) -> Figures:
    """AUROC and average precision, each class against the rest, averaged over classes that have both kinds of samples.

    columns: class number, its scores, which samples are of it.
    """
    able = [(number, scores, holds) for number, scores, holds in columns if holds.sum() > 0]
    aurocs = {number: auroc(scores, holds) for number, scores, holds in able if not holds.all()}
    precisions = {number: average_precision(scores, holds) for number, scores, holds in able}
    why = {} if aurocs else {"auroc": "no class has samples that are of it and samples that are not"}
    why |= {} if precisions else {"average_precision": "no sample is of any class"}
    values: dict[str, Value] = {"auroc": mean(aurocs.values()), "average_precision": mean(precisions.values())}
    return Figures(values, {"auroc": aurocs, "average_precision": precisions}, 0, why)


class MultilabelTally:
    """Probabilities of labels, (n, labels), against `labels`."""

    def __init__(self, target: str, threshold: float) -> None:
        self.target, self.threshold, self.count, self.exact = target, threshold, 0, 0
        self.confusion = Confusion()
        self.scores: list[Array] = []
        self.labels: list[Array] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        scores, labels = np.asarray(predictions), np.asarray(targets[self.target]).astype(bool)
        if scores.shape != labels.shape:
            raise Unfit(f"it gives {[1, *scores.shape[1:]]}, the target has {labels.shape[1]} labels")
        holds = scores >= self.threshold
        self.count += len(scores)
        self.exact += int((holds == labels).all(1).sum())
        self.confusion.add((holds & labels).sum(0), holds.sum(0), labels.sum(0))
        self.scores.append(scores)
        self.labels.append(labels)

    def figures(self, wanted: Collection[str]) -> Figures:
        f1 = self.confusion.f1()
        scores, labels = np.concatenate(self.scores), np.concatenate(self.labels)
        ranked = rankings([(number, scores[:, number], labels[:, number]) for number in range(labels.shape[1])])
        why = {} if f1.counted else dict.fromkeys(_F1, "no sample has any label")
        return Figures(
            {"exact_match": ratio(self.exact, self.count), **f1.values, **ranked.values},
            {**f1.classes, **ranked.classes},
            self.count,
            {**why, **ranked.why},
        )


class BinaryTally:
    """A probability, (n,) or (n, 1), against `label` 0 or 1."""

    def __init__(self, target: str, threshold: float) -> None:
        self.target, self.threshold = target, threshold
        self.scores: list[Array] = []
        self.labels: list[Array] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        scores, labels = np.asarray(predictions), np.asarray(targets[self.target])
        if scores.size != len(labels):
            raise Unfit(f"wanted one score a sample, found {[1, *scores.shape[1:]]}")
        if labels.max(initial=0) > 1:
            raise Unfit(f"its target {self.target!r} is 0 or 1, found {labels.max()}")
        self.scores.append(scores.reshape(-1))
        self.labels.append(labels.astype(bool))

    def figures(self, wanted: Collection[str]) -> Figures:
        scores, labels = np.concatenate(self.scores), np.concatenate(self.labels)
        holds = scores >= self.threshold
        both = int((holds & labels).sum())
        positives, answered = int(labels.sum()), int(holds.sum())
        values: dict[str, Value] = {
            "binary_accuracy": ratio(int((holds == labels).sum()), len(labels)),
            "binary_f1": ratio(2 * both, positives + answered) if positives else float("nan"),
            "auroc": auroc(scores, labels),
            "average_precision": average_precision(scores, labels),
            "eer": equal_error_rate(scores, labels),
        }
        missing = "no eval sample holds" if not positives else "every eval sample holds"
        why = {
            name: f"{missing}: labels are {int(labels.min())} alone" for name in values if values[name] != values[name]
        }
        return Figures(values, {}, len(labels), why)


class TokensTally:
    """Scores of tags, (n, T, tags), against `tags`; ignored tags count for nothing."""

    def __init__(self, target: str) -> None:
        self.target, self.hits, self.count = target, 0, 0
        self.confusion = Confusion()

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        for scores, tags in zip(predictions, targets[self.target], strict=True):
            answered, wanted = np.asarray(scores), np.asarray(tags)
            if answered.ndim != 2:
                raise Unfit(f"wanted [1, T, tags], found {[1, *answered.shape]}")
            if len(wanted) > len(answered):
                raise Unfit(f"it tags {len(answered)} tokens, a sample has {len(wanted)}")
            held = wanted != IGNORED_TAG
            predicted, wanted = answered.argmax(1)[: len(wanted)][held], wanted[held]
            if wanted.max(initial=0) >= answered.shape[1]:
                raise Unfit(f"it has {answered.shape[1]} tags, and the data have a tag {wanted.max()}")
            self.hits += int((predicted == wanted).sum())
            self.count += len(wanted)
            self.confusion.add_numbers(predicted, wanted, answered.shape[1])

    def figures(self, wanted: Collection[str]) -> Figures:
        f1 = self.confusion.f1()
        values: dict[str, Value] = {"token_accuracy": ratio(self.hits, self.count), **f1.values}
        why = {} if self.count else dict.fromkeys(values, "every tag is ignored (-100)")
        return Figures(values, {**f1.classes, "token_accuracy": self.confusion.recall()}, self.count, why)
