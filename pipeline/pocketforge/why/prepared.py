"""The prepared graph as fake quantization: each observer rounds what it sees to the levels that it would choose.

Observers of post-training calibration only watch. Rounding in float with their ranges shows what quantization itself
costs, before anything is converted (Jacob et al. 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule

from pocketforge.metrics import Arrays
from pocketforge.outcomes.reference import StepSequence
from pocketforge.quantization import pt2e
from pocketforge.recipe.quantize import Quantize


def prepare_again(
    program: torch.export.ExportedProgram,
    samples: Arrays,
    quantize: Quantize,
    schemes: Mapping[str, str],
    progress: Callable[[float], None],
    sequence: StepSequence | None = None,
) -> GraphModule:
    """Prepare and calibrate as stage quantize did, and put fake quantization in the observers' places.

    samples: the calibration samples, one array an input. schemes: layer → scheme, as quantize.json has them.
    sequence: of a model with states.
    """
    if "static_int8" not in schemes.values():
        samples = [array[:1] for array in samples]
    prepared = pt2e.prepare(program, quantize, schemes)
    pt2e.calibrate(prepared, samples, progress, sequence)
    fakes: dict[int, FakeQuantize] = {}
    # An op that must keep its input's scale (a pooling) shares the observer, under a name of its own.
    for name, module in list(prepared.named_modules(remove_duplicate=False)):
        if name.startswith("activation_post_process"):
            if id(module) not in fakes:
                fakes[id(module)] = FakeQuantize(module)
            setattr(prepared, name, fakes[id(module)])
    return prepared


class Observer(Protocol):
    """An observer of torchao's or ours, as far as it is asked here; some also have ch_axis, eps, is_dynamic."""

    quant_min: int
    quant_max: int

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point of what it saw."""
        ...


class FakeQuantize(torch.nn.Module):  # type: ignore[misc]
    """Rounds a tensor to the levels of an observer's range."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.low, self.high = int(observer.quant_min), int(observer.quant_max)
        self.dynamic = bool(getattr(observer, "is_dynamic", False))
        self.axis = getattr(observer, "ch_axis", None) if "PerChannel" in type(observer).__name__ else None
        self.eps = float(getattr(observer, "eps", torch.finfo(torch.float32).eps))
        if not self.dynamic:
            scale, zero_point = observer.calculate_qparams()
            self.register_buffer("scale", scale.float().reshape(-1))
            self.register_buffer("zero_point", zero_point.to(torch.int32).reshape(-1))

    def forward(self, values: Tensor) -> Tensor:
        """The values that remain, in float."""
        if self.dynamic:
            # As choose_qparams does at each inference: the range of this tensor, with zero in it.
            low, high = values.min().clamp(max=0), values.max().clamp(min=0)
            scale = ((high - low) / (self.high - self.low)).clamp(min=self.eps)
            zero_point = (self.low - torch.round(low / scale)).clamp(self.low, self.high)
            return torch.fake_quantize_per_tensor_affine(
                values, scale.reshape(()), zero_point.to(torch.int32).reshape(()), self.low, self.high
            )
        if self.axis is not None:
            return torch.fake_quantize_per_channel_affine(
                values, self.scale, self.zero_point, self.axis, self.low, self.high
            )
        return torch.fake_quantize_per_tensor_affine(
            values, self.scale.reshape(()), self.zero_point.reshape(()), self.low, self.high
        )
