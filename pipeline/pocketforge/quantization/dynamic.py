"""Dynamic int8 through PT2E: linear layers get int8 weights; their inputs are quantized by the runtime, each inference.

Nothing is calibrated. Convolutions stay float: of the three runtimes, XNNPACK has no dynamic convolution that PT2E
reaches, so a graph with one would be a different model in each.
"""

from __future__ import annotations

import dataclasses

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig
from torchao.quantization.pt2e import ObserverBase, PerChannelMinMaxObserver, PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from pocketforge.quantization.range_search import SMALLEST_SCALE


class OneScalePerChannelObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """One scale for a whole weight, written once for each channel: XNNPACK's dynamic linear takes no other form.

    Its name has to hold "PerChannel": torchao gives the channel's axis to such observers only.
    """

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The scale that the widest channel needs, for every channel."""
        scale, zero_point = super().calculate_qparams()
        return scale.max().expand_as(scale).contiguous(), zero_point


def dynamic_config(*, per_channel: bool, weight_bits: int = 8) -> QuantizationConfig:
    """XNNPACK's dynamic numerics: int8 affine inputs per tensor, int8 symmetric weights in ±127, or fewer levels."""
    limit = 2 ** (weight_bits - 1) - 1
    base = get_symmetric_quantization_config(
        is_per_channel=True, is_dynamic=True, weight_qmin=-limit, weight_qmax=limit
    )
    weight = PerChannelMinMaxObserver if per_channel else OneScalePerChannelObserver
    return dataclasses.replace(
        base,
        input_activation=observed(base.input_activation, PlaceholderObserver),
        weight=observed(base.weight, weight),
    )


def observed(spec: QuantizationSpec, kind: type[ObserverBase]) -> QuantizationSpec:
    """A quantization spec with an observer of `kind` that lets scales be small."""
    return dataclasses.replace(spec, observer_or_fake_quant_ctr=kind.with_args(eps=SMALLEST_SCALE))
