"""The same layer in two stages: how much its output differs, and in which way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from pocketforge.metrics import LEAST_VALUES, PERFECT_SQNR_DB, Array, Part
from pocketforge.model.evaluate import one_sample
from pocketforge.outcomes.reference import StepSequence
from pocketforge.why.taps import Tap, Tapped

_LEAST_VARIATION = 1e-5  # of a channel's largest value: an SQNR against less would measure float32's own rounding


class LayerSource(Protocol):
    """Where a stage's layers can be looked at."""

    def look(self, index: int, clean: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Layer → its output for one sample. clean: outputs to go on with in place of its own, where that can be."""
        ...


class GraphSource:
    """A graph in PyTorch. taps: layer → where its output is."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        taps: Mapping[str, Tap],
        samples: Sequence[Array],
        sequence: StepSequence | None = None,
    ) -> None:
        self._tapped = Tapped(module, taps)
        self._samples = samples
        self._sequence = sequence

    def look(self, index: int, clean: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """See Source."""
        given = None if clean is None else {k: torch.from_numpy(np.array(v)) for k, v in clean.items()}
        outputs = self._tapped.look(one_sample(self._samples, index, self._sequence), given)
        return {layer: value.numpy() for layer, value in outputs.items()}


class StoredSource:
    """Outputs that a file gave: layer → array, samples first."""

    def __init__(self, stored: Mapping[str, Array]) -> None:
        self._stored = stored

    def look(self, index: int, clean: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """See Source; a file's layers cannot be given other inputs."""
        return {layer: np.asarray(values[index : index + 1]) for layer, values in self._stored.items()}


@dataclass(slots=True)
class Difference:
    """Sums over samples of one layer's outputs here (y) and in the stage before (x), in float64.

    Attributes:
        count: How many values were added.
        x: Sum of x.
        xx: Sum of x².
        y: Sum of y.
        yy: Sum of y².
        xy: Sum of x·y.
        turned: Sum of squared differences with y's height and width swapped, of square images.
        finite: Whether every value was a finite number.
        square: Whether `turned` was summed.
        low: Least value of x, of y.
        high: Largest value of x, of y.
        noise: Sum of squared differences.
        largest: Largest absolute difference.
        channels: For each channel: sum of x, of x², of squared differences, largest |x|, count. Empty where there are
            no channels.
    """

    count: int = 0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    yy: float = 0.0
    xy: float = 0.0
    turned: float = 0.0
    finite: bool = True
    square: bool = False
    low: list[float] = field(default_factory=lambda: [math.inf, math.inf])
    high: list[float] = field(default_factory=lambda: [-math.inf, -math.inf])
    noise: float = 0.0
    largest: float = 0.0
    channels: list[Array] = field(default_factory=list)

    def add(self, before: Array, here: Array) -> None:
        """One sample: arrays of the same number of elements."""
        a = before.astype(np.float64)
        b = here.astype(np.float64).reshape(a.shape)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            self.finite = False
            return
        self.count += a.size
        self.x, self.y = self.x + float(a.sum()), self.y + float(b.sum())
        self.xx, self.yy = self.xx + float((a * a).sum()), self.yy + float((b * b).sum())
        self.xy += float((a * b).sum())
        self.noise += float(((a - b) ** 2).sum())
        self.largest = max(self.largest, float(np.abs(a - b).max()))
        self._add_channels(a, b)
        if a.ndim == 4 and a.shape[2] == a.shape[3] > 1:
            self.square = True
            self.turned += float(((a - b.swapaxes(2, 3)) ** 2).sum())
        for side, values in enumerate((a, b)):
            self.low[side] = min(self.low[side], float(values.min()))
            self.high[side] = max(self.high[side], float(values.max()))

    def _add_channels(self, a: Array, b: Array) -> None:
        """Sums by channel: values, their squares and the noise's, the largest value, how many there are."""
        if a.ndim < 2:
            return
        others = tuple(k for k in range(a.ndim) if k != 1)
        sums = [a.sum(others), (a * a).sum(others), ((a - b) ** 2).sum(others)]
        sums += [np.abs(a).max(others), np.full(a.shape[1], a.size // a.shape[1], np.float64)]
        if not self.channels:
            self.channels = sums
        else:
            total, square, noise, peak, count = self.channels
            self.channels = [
                total + sums[0],
                square + sums[1],
                noise + sums[2],
                np.maximum(peak, sums[3]),
                count + sums[4],
            ]

    @property
    def worst_channel(self) -> Part | None:
        """The channel with the lowest SQNR about its mean; None where none has values enough that vary."""
        if not self.channels or not self.finite:
            return None
        total, square, noise, peak, count = self.channels
        varies = square - total**2 / count
        judged = (varies > count * (_LEAST_VARIATION * peak) ** 2) & (count >= LEAST_VALUES) & (noise > 0)
        if not judged.any():
            return None
        ratios = np.where(judged, varies, 1.0) / np.where(judged, noise, 1e-300)
        index = int(ratios.argmin())
        return Part(f"channel {index}", _db(float(varies[index]), float(noise[index])))

    @property
    def sqnr_db(self) -> float:
        """Signal to noise ratio, with the stage before as the signal; 200 where there is no difference."""
        return _db(self.xx, self.noise) if self.finite else -PERFECT_SQNR_DB

    @property
    def turned_db(self) -> float:
        """The same with height and width of the output swapped; -200 where it has none, or they differ."""
        return _db(self.xx, self.turned) if self.finite and self.square else -PERFECT_SQNR_DB

    @property
    def offset(self) -> float:
        """By how much the outputs are higher on average."""
        return (self.y - self.x) / max(self.count, 1)

    @property
    def offset_share(self) -> float:
        """The share of the noise that this one number explains."""
        return self.offset**2 * self.count / self.noise if self.noise else 0.0

    @property
    def gain(self) -> float:
        """The factor that the outputs are nearest to, without their mean."""
        n = max(self.count, 1)
        varies = self.xx - self.x * self.x / n
        return (self.xy - self.x * self.y / n) / varies if varies > 0 else 1.0

    @property
    def correlation(self) -> float:
        """Of the two outputs, -1 to 1."""
        n = max(self.count, 1)
        both = (self.xx - self.x**2 / n) * (self.yy - self.y**2 / n)
        return (self.xy - self.x * self.y / n) / math.sqrt(both) if both > 0 else 0.0


def _db(signal: float, noise: float) -> float:
    ratio_db = PERFECT_SQNR_DB if noise <= 0 else 10 * math.log10(max(signal, 1e-300) / noise)
    return max(-PERFECT_SQNR_DB, min(ratio_db, PERFECT_SQNR_DB))


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One layer in two stages.

    Attributes:
        layer: Its name in the traced graph.
        op: What it computes.
        seen: With the inputs that come.
        own: With those of the stage before, so what this layer adds by itself; None where a stage takes none.
    """

    layer: str
    op: str
    seen: Difference
    own: Difference | None

    @property
    def judged(self) -> Difference:
        """What says most of the layer itself."""
        return self.own or self.seen


def compare(
    before: LayerSource, here: LayerSource, layers: Mapping[str, str], count: int, *, forced: bool
) -> list[LayerDifference]:
    """Compare layer by layer on `count` samples. layers: name → op, in order. forced: whether `here` takes inputs."""
    seen: dict[str, Difference] = {}
    own: dict[str, Difference] = {}
    for index in range(count):
        outputs_before = before.look(index)
        runs = [(seen, here.look(index))] + ([(own, here.look(index, outputs_before))] if forced else [])
        for sums, outputs in runs:
            for layer in layers:
                if layer in outputs_before and layer in outputs and outputs_before[layer].size == outputs[layer].size:
                    sums.setdefault(layer, Difference()).add(outputs_before[layer], outputs[layer])
    return [LayerDifference(layer, op, seen[layer], own.get(layer)) for layer, op in layers.items() if layer in seen]


def first_bad(rows: Sequence[LayerDifference], limit_db: float) -> LayerDifference | None:
    """The first layer below the limit; where none is, the one with the worst channel, if that says less than its mean;
    else the one that adds most: many small losses make a large one."""
    for row in rows:
        if row.judged.sqnr_db < limit_db:
            return row
    hidden = [(part.sqnr_db, number) for number, row in enumerate(rows) if (part := row.judged.worst_channel)]
    if hidden and min(hidden)[0] < 0:
        return rows[min(hidden)[1]]
    return min(rows, key=lambda row: row.judged.sqnr_db, default=None)
