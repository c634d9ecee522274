"""Dynamic int8 through PT2E: linear layers get int8 weights; their inputs are quantized by the runtime, each inference.

Nothing is calibrated. Convolutions stay float: of the three runtimes, XNNPACK has no dynamic convolution that PT2E
reaches, so a graph with one would be a different model in each.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from torchao.quantization.pt2e import PerChannelMinMaxObserver, PlaceholderObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from pipeline.quantization.pt2e import observed


class OneScalePerChannelObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """One scale for a whole weight, written once for each channel: XNNPACK's dynamic linear takes no other form.

    Its name has to hold "PerChannel": torchao gives the channel's axis to such observers only.
    """

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The scale that the widest channel needs, for every channel."""
        scale, zero_point = super().calculate_qparams()
        return scale.max().expand_as(scale).contiguous(), zero_point


def config(*, per_channel: bool) -> Any:
    """XNNPACK's dynamic numerics: int8 affine inputs per tensor, int8 symmetric weights in ±127."""
    base = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    weight = PerChannelMinMaxObserver if per_channel else OneScalePerChannelObserver
    return dataclasses.replace(
        base,
        input_activation=observed(base.input_activation, PlaceholderObserver),
        weight=observed(base.weight, weight),
    )


def quantize_dynamic(
    program: torch.export.ExportedProgram, *, per_channel: bool
) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """Convert; returns (folded, unfolded) as `pt2e.quantize_static` does. Both compute the same."""
    example = program.example_inputs[0]

    def convert(fold: bool) -> torch.fx.GraphModule:
        # Prepared once for each: converting a deep copy fails, as annotations point to the nodes of the original.
        prepared = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config(per_channel=per_channel)))
        with torch.no_grad():
            prepared(*example)  # weights are observed when the graph runs
        converted: torch.fx.GraphModule = convert_pt2e(prepared, fold_quantize=fold)
        return converted

    return convert(True), convert(False)
