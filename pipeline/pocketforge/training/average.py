"""All of a module's tensors as one set: an exponential moving average of them, and swapping them in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, buffers that a state dict leaves out included; tied ones once."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(module).items()}


def put(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Overwrite the module's tensors, in place: optimizers and masks keep their references."""
    for name, tensor in tensors_of(module).items():
        tensor.copy_(values[name])


@contextmanager
def holding(module: nn.Module, values: Mapping[str, Tensor] | None) -> Iterator[None]:
    """The module has `values` inside, its own tensors again outside. None changes nothing."""
    if values is None:
        yield
        return
    own = copy_of(module)
    put(module, values)
    try:
        yield
    finally:
        put(module, own)


class MovingAverage:
    """An exponential moving average of weights and buffers (Polyak & Juditsky 1992; integer buffers are copied).

    The decay of update n is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage: a short
    training does not stay at the weights that it began with.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.values = copy_of(module)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take the module's tensors in, after update `step` (1, 2, …)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in tensors_of(module).items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)
