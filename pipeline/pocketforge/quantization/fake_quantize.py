"""Fake quantization while a model trains: a backend's numbers, with ranges that follow what is trained.

Jacob et al. 2018, section 3: values are rounded in the forward pass, gradients go straight through (but not where a
value was clipped). torchao's fused kernel is not used: for fewer than 8 bits its scale is another than the one that
conversion takes (±3 levels: 7/6 of it), so the file would not compute what was trained.
"""

from __future__ import annotations

import dataclasses

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig
from torchao.quantization.pt2e import MovingAverageMinMaxObserver
from torchao.quantization.pt2e.fake_quantize import FakeQuantize
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from pocketforge.quantization.observers import (
    MakeObserver,
    MinMaxActivation,
    WideMinMaxObserver,
    WidePerChannelMinMaxObserver,
    weight_levels,
)
from pocketforge.quantization.range_search import SMALLEST_SCALE
from pocketforge.recipe.backends import BACKENDS, STORED_LEVELS
from pocketforge.recipe.quantize import Quantize

# A batch moves an activation's range by this share of the difference: torch's 0.01 is for trainings of thousands of
# steps, and a QAT of three epochs on a small set has fifty.
AVERAGING = 0.05


class AveragedActivation(MinMaxActivation, MovingAverageMinMaxObserver):  # type: ignore[misc]
    """A moving average of the lowest and the highest value of each batch."""

    def forget(self) -> None:
        """As if nothing had been seen: the next batch is the range."""
        self.min_val.fill_(float("inf"))
        self.max_val.fill_(float("-inf"))


class CurrentWeight(WideMinMaxObserver):  # type: ignore[misc]
    """The range of a weight as it is now: one that only grows, or lags, is another weight's."""

    def forget(self) -> None:
        """Nothing is remembered."""

    def record(self, x: torch.Tensor) -> None:
        low, high = torch.aminmax(x)
        self.min_val.copy_(low)
        self.max_val.copy_(high)


class CurrentPerChannelWeight(WidePerChannelMinMaxObserver):  # type: ignore[misc]
    """`CurrentWeight` for each channel."""

    def forget(self) -> None:
        """Nothing is remembered."""

    def record(self, x: torch.Tensor) -> None:
        low, high = torch.aminmax(x.movedim(self.ch_axis, 0).flatten(1), dim=1)
        for value, now in ((self.min_val, low), (self.max_val, high)):
            value.resize_(now.shape).copy_(now)


class TrainedFakeQuantize(FakeQuantize):  # type: ignore[misc]
    """torchao's FakeQuantize, whose switches are plain attributes.

    In torchao they are buffers, which training would average, restore and share with the values. observing: whether
    the range follows what comes; quantizing: whether values are rounded to it.
    """

    observing = True
    quantizing = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` (any shape), rounded to the levels and clipped to their range."""
        if self.observing:
            self.activation_post_process(x.detach())
            self.settle()
        if not self.quantizing:
            return x
        low, high = self.quant_min, self.quant_max
        if self.is_per_channel:
            return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.ch_axis, low, high)
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, low, high)

    def settle(self) -> None:
        """Take scale and zero point from the range, as conversion does."""
        scale, zero_point = self.calculate_qparams()
        self.scale.resize_(scale.shape).copy_(scale)
        self.zero_point.resize_(zero_point.shape).copy_(zero_point)


def fake_quantizers(graph: torch.nn.Module) -> list[TrainedFakeQuantize]:
    """All of a prepared graph, once each."""
    return [module for module in graph.modules() if isinstance(module, TrainedFakeQuantize)]


def training_config(quantize: Quantize) -> QuantizationConfig:
    """The configuration that PT2E's quantizer takes for training: as `numerics.static_config`, but trainable."""
    backend = BACKENDS[quantize.backend]
    base = get_symmetric_quantization_config(is_per_channel=quantize.by_channel, is_qat=True)
    # As the file stores them: what is clipped while training is what saturates in the file.
    observer = AveragedActivation.with_args(
        levels=backend.activation_levels, eps=SMALLEST_SCALE, averaging_constant=AVERAGING
    )
    activation = _spec(base.input_activation, observer, STORED_LEVELS)
    levels = weight_levels(backend, quantize.weight_bits)
    steps = backend.weight_steps if quantize.weight_bits == 8 else float(levels[1])
    kind = CurrentPerChannelWeight if quantize.by_channel else CurrentWeight
    return dataclasses.replace(
        base,
        input_activation=activation,
        output_activation=activation,
        weight=_spec(base.weight, kind.with_args(steps=steps, eps=SMALLEST_SCALE), levels),
    )


def _spec(base: QuantizationSpec, observer: MakeObserver, levels: tuple[int, int]) -> QuantizationSpec:
    return dataclasses.replace(
        base,
        quant_min=levels[0],
        quant_max=levels[1],
        observer_or_fake_quant_ctr=TrainedFakeQuantize.with_args(observer=observer),
    )
