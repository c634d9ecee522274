"""What calibration sees, and the scale and zero point that follow: one observer class for each method.

Each lays its range over levels of its own, whatever wider levels the graph clamps at, and keeps 0 exact. Methods:
minmax: the whole observed range. histogram: torch's own search for the least L2 error. percentile: what lies between
two quantiles. mse: the range of least squared error, by search. entropy: least KL divergence (Migacz, "8-bit inference
with TensorRT", GTC 2017). All but minmax know values by torch's running histogram only, to one of its 2048 bins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, ObserverBase, PerChannelMinMaxObserver

from pocketforge.errors import ModelError
from pocketforge.metrics import Array
from pocketforge.quantization.range_search import (
    SMALLEST_SCALE,
    divergence_when_cut,
    ends_of_least_error,
    of_magnitudes,
    squared_error,
)
from pocketforge.quantization.weighted import op_name, owner
from pocketforge.recipe.backends import Backend


class MakeObserver(Protocol):
    """What a QuantizationSpec takes as its `observer_or_fake_quant_ctr`: a class of torchao's, with settings."""

    def __call__(self, **settings: object) -> ObserverBase: ...

    def with_args(self, **settings: object) -> MakeObserver: ...


def activation_observer(calibration: str, percentile: float, backend: Backend) -> MakeObserver:
    """The constructor that a QuantizationSpec takes for activations (`observer_or_fake_quant_ctr`), as it is.

    The range is laid over `backend.activation_levels`; the spec's own quant_min and quant_max say where values are
    clamped, and may be wider. percentile: for calibration "percentile" only. Raises KeyError for an unknown method.
    """
    settings = {"percentile": percentile} if calibration == "percentile" else {}
    method = METHODS[calibration]
    make: MakeObserver = method.with_args(levels=backend.activation_levels, eps=SMALLEST_SCALE, **settings)
    return make


def weight_observer(backend: Backend, per_channel: bool, weight_bits: int = 8) -> MakeObserver:
    """The constructor that a QuantizationSpec takes for weights. Its quant_min, quant_max are `weight_levels(…)`."""
    kind = WidePerChannelMinMaxObserver if per_channel else WideMinMaxObserver
    steps = backend.weight_steps if weight_bits == 8 else float(weight_levels(backend, weight_bits)[1])
    make: MakeObserver = kind.with_args(steps=steps, eps=SMALLEST_SCALE)
    return make


def weight_levels(backend: Backend, weight_bits: int = 8) -> tuple[int, int]:
    """Lowest and highest level of a weight: the backend's own for 8 bits, else symmetric (±7 for 4 bits)."""
    highest = 2 ** (weight_bits - 1) - 1
    return backend.weight_levels if weight_bits == 8 else (-highest, highest)


def name_observers(prepared: torch.fx.GraphModule) -> None:
    """Tell each observer what it looks at, for its error messages: the graph knows, an observer does not."""
    for node in prepared.graph.nodes:
        observer = observer_of(prepared, node)
        if isinstance(observer, _Checked) and not observer.where and isinstance(node.args[0], torch.fx.Node):
            observer.where = words_of(node.args[0])


def observer_of(prepared: torch.fx.GraphModule, node: torch.fx.Node) -> object:
    """What observes at this node; None for a node that is none."""
    called = getattr(prepared, str(node.target), None) if node.op == "call_module" else None
    return getattr(called, "activation_post_process", called)  # a fake quantizer holds one


def words_of(seen: torch.fx.Node) -> str:
    """A tensor that is observed, for readers."""
    if seen.op == "placeholder":
        return f"input {seen.name}"
    return str(seen.target) if seen.op == "get_attr" else f"{owner(seen)} (output of {op_name(seen)})"


class _Checked:
    """Mixed into torchao's observers: refuses what no scale can hold, and says where."""

    where = ""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Record `x` (any shape). Raises ModelError for NaN or infinite values."""
        wrong = int(x.numel() - torch.isfinite(x).sum())
        if wrong:
            raise ModelError(
                f"NaN ranges: {wrong} of {x.numel()} values are NaN or infinite{self._place()}",
                "run the float model on the calibration samples: it must be finite on every one of them",
            )
        self.record(x.detach())
        return x

    def record(self, x: torch.Tensor) -> None:
        super().forward(x)  # type: ignore[misc]

    def _place(self) -> str:
        return f": {self.where}" if self.where else ""

    def _check_seen(self, low: torch.Tensor, high: torch.Tensor) -> None:
        if not low.numel() or not bool((low <= high).all()):
            raise ModelError(
                f"nothing was observed{self._place()}",
                "calibration needs one sample or more: see data.calibration_samples",
            )

    def _check_scale(self, scale: torch.Tensor) -> None:
        if not bool(torch.isfinite(scale).all()):
            raise ModelError(f"the observed range is too wide for a float32 scale{self._place()}")


class ActivationObserver(_Checked):
    """levels: the observed range lies over these; by default over quant_min to quant_max, where values are clamped."""

    min_val: torch.Tensor
    max_val: torch.Tensor
    eps: torch.Tensor
    quant_min: int
    quant_max: int

    def __init__(
        self,
        *,
        levels: tuple[int, int] | None = None,
        quant_min: int | None = None,
        quant_max: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        # Not given to the base class, which refuses ranges without level 0 (fbgemm's 7 bits are -128 to -1).
        if quant_min is not None and quant_max is not None:
            self.quant_min, self.quant_max = quant_min, quant_max
        self.levels = levels or (self.quant_min, self.quant_max)

    def seen(self) -> tuple[float, float]:
        """The lowest and the highest value that was observed; of moving averages, these. Infinite when nothing was."""
        return self.min_val.item(), self.max_val.item()

    def clipped(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The lowest and the highest value that the levels are laid over (0-d float32)."""
        return self.min_val, self.max_val

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, zero point), one value each. Raises ModelError when nothing was observed."""
        self._check_seen(self.min_val, self.max_val)
        low, high = self.clipped()
        # In float32 and in this order, as torch's engines do: another rounding would be another scale.
        low, high = torch.clamp(low, max=0.0), torch.clamp(high, min=0.0)
        first, last = self.levels
        scale = torch.max((high - low) / float(last - first), self.eps)
        self._check_scale(scale)
        zero_point = torch.clamp(first - torch.round(low / scale).to(torch.int64), first, last)
        return scale, zero_point


class MinMaxActivation(ActivationObserver, MinMaxObserver):
    """The whole range that was seen."""


class HistogramActivation(ActivationObserver, HistogramObserver):
    """torch's search: cuts the tail with fewer values, 1e-5 of them a step, until the L2 error rises."""

    def clipped(self) -> tuple[torch.Tensor, torch.Tensor]:
        sums, total = torch.cumsum(self.histogram, dim=0).tolist(), torch.sum(self.histogram).item()
        first, last = ends_of_least_error(sums, total, self._compute_quantization_error)
        width = (self.max_val - self.min_val) / self.bins
        return self.min_val + width * first, self.min_val + width * (last + 1)

    def counts(self) -> tuple[Array, Array]:
        """(how many values in each bin, the bins' edges), float64."""
        edges = np.linspace(float(self.min_val), float(self.max_val), self.bins + 1)
        return self.histogram.numpy().astype(np.float64), edges


class PercentileActivation(HistogramActivation):
    """From quantile 100 - percentile to quantile percentile, both in percent: so much lies outside at each end."""

    def __init__(self, *, percentile: float = 99.99, **settings: Any) -> None:
        super().__init__(**settings)
        self.percentile = percentile

    def clipped(self) -> tuple[torch.Tensor, torch.Tensor]:
        counts, edges = self.counts()
        if self.percentile >= 100 or edges[0] == edges[-1]:
            return self.min_val, self.max_val
        below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
        return _pair(np.interp([1 - self.percentile / 100, self.percentile / 100], below, edges))


class _WithoutZeros(HistogramActivation):
    """Exact zeros are counted apart: every scale keeps them, and after a ReLU they would outweigh all the rest."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("seen_zeros", torch.tensor(False))

    def record(self, x: torch.Tensor) -> None:
        zeros = x == 0
        if bool(zeros.any()):
            self.seen_zeros.fill_(True)
        super().record(x[~zeros])

    def seen(self) -> tuple[float, float]:
        """With the zeros."""
        low, high = super().seen()
        return (min(low, 0.0), max(high, 0.0)) if bool(self.seen_zeros) else (low, high)

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As of the other methods; all zero is a range of nothing, which is not nothing observed."""
        if bool(self.seen_zeros) and bool(self.min_val > self.max_val):
            self.min_val.zero_()
            self.max_val.zero_()
        return super().calculate_qparams()


class EntropyActivation(_WithoutZeros):
    """The threshold of least KL divergence between |x| as it is and as it becomes in the levels up to there."""

    def clipped(self) -> tuple[torch.Tensor, torch.Tensor]:
        counts, edges = self.counts()
        low, high = min(edges[0], 0.0), max(edges[-1], 0.0)
        if edges[0] == edges[-1]:
            return self.min_val, self.max_val
        size = max(-low, high) / self.bins
        magnitudes = of_magnitudes(counts, edges, size)
        best, least = self.bins, np.inf
        # From the widest down: two spikes without anything between them are no reason to cut one off.
        for count in range(self.bins, 0, -1):
            width = min(high, count * size) - max(low, -count * size)
            levels = round((self.levels[1] - self.levels[0] + 1) * count * size / width)
            if count < levels:
                continue
            divergence = divergence_when_cut(magnitudes, count, levels)
            if divergence < least - 1e-9:
                best, least = count, divergence
        return _pair([max(low, -best * size), min(high, best * size)])


class MseActivation(_WithoutZeros):
    """The range of least squared error: both ends drawn in together, then each alone, both only as long as it helps."""

    def clipped(self) -> tuple[torch.Tensor, torch.Tensor]:
        counts, edges = self.counts()
        whole = (min(edges[0], 0.0), max(edges[-1], 0.0))
        if edges[0] == edges[-1]:
            return self.min_val, self.max_val

        def error(low: float, high: float) -> float:
            return squared_error(counts, edges, (low, high), self.levels)

        # In ratios: an outlier may be a thousand times what the rest needs.
        together = [(f * whole[0], f * whole[1]) for f in 2.0 ** (-np.arange(161) / 16)]
        best = min(together, key=lambda r: error(*r))
        for side in (0, 1, 0, 1):
            alone = [tuple(np.clip(f * e, *whole) if i == side else e for i, e in enumerate(best))
                     for f in np.linspace(0.5, 1.5, 41)]  # fmt: skip
            best = min([best, *alone], key=lambda r: error(*r))
        return _pair(best)


def _pair(values: Iterable[float]) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = torch.tensor([float(v) for v in values], dtype=torch.float32)
    return low, high


class _Weight(_Checked):
    """steps: the widest weight lies so many steps from 0. It is clamped at quant_max, half a step lower at 127.5."""

    min_val: torch.Tensor
    max_val: torch.Tensor
    eps: torch.Tensor

    def __init__(self, *, steps: float = 127.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.steps = steps

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, zero point 0), one value for each channel or one in all. Raises ModelError when nothing was observed.

        A channel of zeros takes the widest one's scale: any scale holds its weights, but its bias is an int32 count of
        (input's scale × this scale), which the smallest scale would let overflow.
        """
        self._check_seen(self.min_val, self.max_val)
        widest = torch.max(self.max_val.abs(), self.min_val.abs()).reshape(-1)
        widest = torch.where(widest > 0, widest, widest.max() if bool(widest.any()) else torch.tensor(1.0))
        scale = torch.max(widest / self.steps, self.eps)
        self._check_scale(scale)
        return scale, torch.zeros_like(scale, dtype=torch.int64)


class WideMinMaxObserver(_Weight, MinMaxObserver):
    """One scale for a weight."""


class WidePerChannelMinMaxObserver(_Weight, PerChannelMinMaxObserver):
    """A scale for each channel of a weight. torchao gives the axis to observers with PerChannel in their name only."""


METHODS: dict[str, type[ObserverBase]] = {
    "minmax": MinMaxActivation,
    "histogram": HistogramActivation,
    "entropy": EntropyActivation,
    "percentile": PercentileActivation,
    "mse": MseActivation,
}
