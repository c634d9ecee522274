"""Accuracy of outputs against labels, and parity of outputs against reference outputs. NumPy only.

Shapes: outputs and references (N, …) with N samples first; for classification (N, classes).

Parity is measured part by part, as a figure over a whole tensor is blind to a small part of it, and about each
channel's mean: an offset carries no information, and would hide an answer that never changes. The scores of a
classifier are compared with each other, so theirs is about the mean of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# One an input or output of a model, samples first.
Arrays = Sequence[Array]
# An SQNR for outputs without any difference: a finite number, so that JSON can hold it.
PERFECT_SQNR_DB = 200.0
# A mean over fewer values says little: such channels have the whole tensor's, and none is judged by itself.
LEAST_VALUES = 8
# What varies by less than this share of its largest value is taken to vary by so much: float32 has 24 bits, and an
# SQNR against less would measure its rounding.
_RESOLUTION = 2e-4
_CONSTANT = 1e-6
# One step of the scale that int8 softmax and sigmoid have by their format: of values in [0, 1], less is not told apart.
_PROBABILITY_STEP = 1 / 256
# Classes share a scale: one whose score varies by less than four steps of 8 bits has not been met in the samples.
_CLASS_STEPS = 4 / 255
# So do the rows and columns of a map: where next to nothing happens, a tenth of the average energy is the signal.
_LEAST_SHARE = 0.1
_CHUNK_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an output.

    Attributes:
        where: Which, as `channel 4` or `row 39`.
        sqnr_db: Its own signal to quantization noise ratio, in dB.
    """

    where: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How near an output is to the reference's.

    Attributes:
        sqnr_db: Signal (about each channel's mean; of classes, the mean of all) to quantization noise, in dB.
        max_abs_diff: The largest absolute difference.
        max_diff_ratio: That over the reference's largest magnitude, or over a channel's largest range where that is
            less.
        channel: The channel with the lowest SQNR; None where none can be judged.
        region: The row or column with the lowest SQNR; None where none can be judged.
        dead: Channels that answer one value where the reference varies, as `channels 4-6`; empty where none does.
        dead_count: How many those are.
    """

    sqnr_db: float
    max_abs_diff: float
    max_diff_ratio: float
    channel: Part | None = None
    region: Part | None = None
    dead: str = ""
    dead_count: int = 0


NOT_FINITE = Comparison(-math.inf, math.inf, math.inf)


def channel_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes whose entries are values of different kinds: axis 1, and the last one where that may be it.

    Of three axes nobody can tell which one holds the channels (a detector's [N, 7, 36] or [N, 36, 7]): both are looked
    at. Of four, the last one where it is the shortest (NHWC).
    """
    if len(shape) == 3:
        return (1, 2)
    return (3,) if len(shape) == 4 and shape[3] < min(shape[1:3]) else (1,)


class _Axis:
    """Sums over the values that share an index along one axis. each: how many those are.

    together: energy is about the mean of all, not of each.
    """

    def __init__(self, axis: int, shape: Sequence[int], *, together: bool = False) -> None:
        self.axis, self.shape, self.together = axis, tuple(shape), together
        self.others = tuple(k for k in range(len(shape)) if k != axis)
        size = shape[axis]
        self.each = math.prod(shape) // size
        self.total, self.energy, self.noise, self.peak = (np.zeros(size) for _ in range(4))
        # Of the outputs, and of the reference.
        self.low, self.high = np.full(size, np.inf), np.full(size, -np.inf)
        self.least, self.most = np.full(size, np.inf), np.full(size, -np.inf)
        self.mean: Array = self.total

    def take_mean(self) -> None:
        size = len(self.total)
        whole = self.together or self.each < LEAST_VALUES
        self.mean = np.full(size, self.total.sum() / (self.each * size)) if whole else self.total / self.each

    def centred(self, reference: Array) -> Array:
        return reference - self.mean.reshape([-1 if k == self.axis else 1 for k in range(len(self.shape))])

    def add(self, centred: Array, outputs: Array, reference: Array, squares: Array) -> None:
        self.energy += np.square(centred).sum(self.others)
        self.noise += squares.sum(self.others)
        self.peak = np.maximum(self.peak, np.abs(reference).max(self.others))
        self.least = np.minimum(self.least, reference.min(self.others))
        self.most = np.maximum(self.most, reference.max(self.others))
        self.low = np.minimum(self.low, outputs.min(self.others))
        self.high = np.maximum(self.high, outputs.max(self.others))

    def signal(self, least: float) -> Array:
        """Each entry's energy; all of it where the reference never changes."""
        floor = self.each * np.square(np.maximum(_RESOLUTION * self.peak, least))
        energy: Array = np.maximum(self.energy, floor)
        if self.together:
            return energy
        return np.where(self.constant, self.each * np.square(self.mean), energy)

    @property
    def variation(self) -> Array:
        """Each entry's energy about its own mean."""
        energy: Array = np.maximum(self.energy - self.each * np.square(self.total / self.each - self.mean), 0.0)
        return energy

    @property
    def span(self) -> float:
        """The largest range, if that is less than the largest value: an offset is no range."""
        peak = float(self.peak.max())
        if self.each < LEAST_VALUES or self.together:
            width = float(self.most.max() - self.least.min())
        else:
            width = float((self.most - self.least).max())
        return peak if width <= _CONSTANT * peak else min(peak, max(width, _RESOLUTION * peak))

    @property
    def constant(self) -> Array:
        never_changes: Array = self.energy <= self.each * np.square(_CONSTANT * self.peak)
        return never_changes

    def dead(self, least: float) -> list[int]:
        """Entries with one value throughout, where the reference varies by more than `least`."""
        if self.each < LEAST_VALUES:
            return []
        varies = self.variation > self.each * np.square(np.maximum(_RESOLUTION * self.peak, least))
        return [int(k) for k in np.flatnonzero(varies & (self.low == self.high))]

    def worst(self, signal: Array, judged: Array) -> Part | None:
        if self.each < LEAST_VALUES or not judged.any():
            return None
        sqnr_db = np.where(judged, _decibels(signal, self.noise), np.inf)
        index = int(sqnr_db.argmin())
        return Part(self.name([index]), float(sqnr_db[index]))

    def name(self, indices: Sequence[int]) -> str:
        channels = channel_axes(self.shape)
        if self.axis == channels[0]:
            word = "channel"
        elif len(self.shape) == 4:
            rows = 2 if channels[0] == 1 else 1
            word = "row" if self.axis == rows else "column"
        else:
            return f"{_ranges(indices)} of axis {self.axis}"
        return f"{word}{'s' * (len(indices) > 1)} {_ranges(indices)}"


def compare(outputs: Array, reference: Array, *, classes: bool = False) -> Comparison:
    """Hold outputs against a reference of the same shape. classes: they are the scores of a classifier."""
    if outputs.shape != reference.shape:
        raise ValueError(f"wanted outputs of shape {list(reference.shape)}, found {list(outputs.shape)}")
    if not reference.size:
        return Comparison(PERFECT_SQNR_DB, 0.0, 0.0)
    # One value a sample is a channel by itself.
    outputs, reference = (a.reshape(len(a), -1) if a.ndim < 2 else a for a in (outputs, reference))
    shape = reference.shape
    channels = [_Axis(axis, shape, together=classes) for axis in channel_axes(shape)]
    used = {axis.axis for axis in channels}
    regions = [_Axis(k, shape) for k in range(1, len(shape)) if k not in used and shape[k] > 2]
    low, high, finite = math.inf, -math.inf, True
    for answered, expected in _chunks(outputs, reference):
        finite &= bool(np.isfinite(answered).all() and np.isfinite(expected).all())
        low, high = min(low, float(expected.min())), max(high, float(expected.max()))
        for axis in channels:
            axis.total += expected.sum(axis.others)
    if not finite:
        return NOT_FINITE
    for axis in channels:
        axis.take_mean()
    worst = 0.0
    for answered, expected in _chunks(outputs, reference):
        difference = np.abs(answered - expected)
        worst = max(worst, float(difference.max()))
        squares = np.square(difference)
        for axis in channels:
            axis.add(axis.centred(expected), answered, expected, squares)
        for axis in regions:
            axis.add(channels[0].centred(expected), answered, expected, squares)
    least = _PROBABILITY_STEP if low >= 0 and high <= 1 else 0.0
    of_a_class = max(least, _CLASS_STEPS * (high - low)) if classes else least
    # Of two axes that may hold the channels, the first with dead ones: along the other, what is dead is dead as well.
    axis, dead = next(((a, d) for a in channels if (d := a.dead(of_a_class))), (channels[0], []))
    return Comparison(
        sqnr_db=_whole(channels, least),
        max_abs_diff=worst,
        max_diff_ratio=_ratio(worst, min(axis.span for axis in channels)),
        channel=_lowest(axis.worst(_of_channels(axis, least), ~axis.constant) for axis in channels),
        region=_lowest(axis.worst(*_of_regions(axis)) for axis in regions),
        dead=axis.name(dead) if dead else "",
        dead_count=len(dead),
    )


def _whole(channels: Sequence[_Axis], least: float) -> float:
    signal = min(float(axis.signal(least).sum()) for axis in channels)
    return float(_decibels(np.asarray(signal), np.asarray(float(channels[0].noise.sum()))))


def _ratio(worst: float, span: float) -> float:
    return worst / span if span else (0.0 if worst == 0 else math.inf)


def _of_channels(axis: _Axis, least: float) -> Array:
    signal = axis.signal(least)
    return np.maximum(signal, _LEAST_SHARE * signal.mean()) if axis.together else signal


def _of_regions(axis: _Axis) -> tuple[Array, Array]:
    average = float(axis.energy.mean())
    return np.maximum(axis.energy, _LEAST_SHARE * average), np.full(len(axis.energy), average > 0)


def _lowest(parts: Iterable[Part | None]) -> Part | None:
    return min((part for part in parts if part is not None), key=lambda part: part.sqnr_db, default=None)


def _decibels(signal: Array, noise: Array) -> Array:
    with np.errstate(divide="ignore"):
        ratio_db = 10 * np.log10(np.maximum(signal, 1e-300) / np.where(noise > 0, noise, np.inf))
    return np.minimum(np.where(noise > 0, ratio_db, PERFECT_SQNR_DB), PERFECT_SQNR_DB)


def _chunks(outputs: Array, reference: Array) -> Iterator[tuple[Array, Array]]:
    step = max(1, _CHUNK_VALUES // max(1, reference[:1].size))
    for start in range(0, len(reference), step):
        part = slice(start, start + step)
        yield np.asarray(outputs[part], np.float64), np.asarray(reference[part], np.float64)


def _ranges(indices: Sequence[int]) -> str:
    """`0, 4-6` of 0, 4, 5, 6; the first few of many."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs]
    return ", ".join(words[:8]) + (f" … ({len(indices)} in all)" if len(words) > 8 else "")


def real_values(outputs: Array, scale: float | None, zero_point: int | None) -> Array:
    """Integer outputs as the float32 values that they stand for; others, and those without a scale, as they are."""
    if not scale or outputs.dtype.kind not in "iu":
        return outputs
    return ((outputs.astype(np.float64) - (zero_point or 0)) * scale).astype(np.float32)


def last_of_each(values: Array, count: int) -> Array:
    """The answers that `count` samples are judged by. values: rows of an output, several a sample of a sequence: what
    its last step gave counts."""
    steps = max(1, len(values) // max(1, count))
    return values[steps - 1 :: steps]


def drop(before: float, after: float, samples: int) -> float:
    """How much lower a share of samples is: counted in samples, since 0.88 - 0.86 is more than 0.02 in floats."""
    return (round(before * samples) - round(after * samples)) / samples


@dataclass(frozen=True, slots=True)
class Parity:
    """How near outputs are to the reference's.

    Attributes:
        max_abs_diff: The largest absolute difference; infinite where anything is not finite.
        max_diff_ratio: That over the reference's largest magnitude, or a channel's largest range where that is less.
        sqnr_db: 10·log10(Σ (reference - its channel's mean)² / Σ (reference - output)²), signal to quantization noise
            ratio; of class scores the mean is that of all. -infinity where anything is not finite.
        argmax_agreement: Share of samples with the same largest entry, 0 to 1.
    """

    max_abs_diff: float
    max_diff_ratio: float
    sqnr_db: float
    argmax_agreement: float


def parity(outputs: Array, reference: Array, *, classes: bool = False) -> Parity:
    """Hold outputs of shape (N, …) against the reference's. classes: they are the scores of a classifier."""
    near = compare(outputs, reference, classes=classes)
    agreement = argmax_agreement(outputs, reference)
    return Parity(near.max_abs_diff, near.max_diff_ratio, near.sqnr_db, agreement)


def argmax_agreement(outputs: Array, reference: Array) -> float:
    """Share of samples with the same largest entry, or class number; none where anything is not finite."""
    if not (np.isfinite(outputs).all() and np.isfinite(reference).all()):
        return 0.0
    if outputs.ndim == 1 and outputs.dtype.kind in "iu":
        return equal_share(outputs, reference)
    flat, expected = outputs.reshape(len(outputs), -1), reference.reshape(len(reference), -1)
    return float((flat.argmax(1) == expected.argmax(1)).mean())


def equal_share(outputs: Array, reference: Array) -> float:
    """Of integers and booleans: the share of equal values."""
    return float((outputs == reference).mean()) if outputs.size else 1.0
