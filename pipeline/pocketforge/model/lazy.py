"""Lazy modules (nn.LazyLinear …), whose sizes the weights or a first input tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from pocketforge.errors import ModelError


def lazy_names(module: nn.Module) -> list[str]:
    """Parameters and buffers that have no shape yet."""
    return [name for name, value in module.state_dict().items() if is_lazy(value)]


def materialize(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give lazy parameters their shapes, with values to be loaded. Raises ModelError for one that is not lazy."""
    for name, shape in shapes.items():
        owner, _, last = name.rpartition(".")
        try:
            value = getattr(module.get_submodule(owner), last)
        except AttributeError:
            value = None
        if not is_lazy(value):
            raise ModelError(f"the checkpoint gives {name!r} its shape, which the model does not leave open")
        value.materialize(tuple(shape))
        with torch.no_grad():
            value.zero_()
    settle_loaded(module)


def settle_loaded(module: nn.Module) -> None:
    """Make plain layers of lazy ones that have their weights, so that no first input is needed."""
    for layer in module.modules():
        # What a user's own lazy module does at its first input is not known.
        if not isinstance(layer, LazyModuleMixin) or not type(layer).__module__.startswith("torch.nn."):
            continue
        if layer.has_uninitialized_params():
            continue
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor):
            transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
            if hasattr(layer, "in_features"):
                layer.in_features = weight.shape[1]
            elif hasattr(layer, "in_channels"):
                layer.in_channels = weight.shape[0] if transposed else weight.shape[1] * int(layer.groups)
        if isinstance(getattr(layer, "running_mean", None), Tensor):
            layer.num_features = layer.running_mean.shape[0]
        become = layer.cls_to_become
        for hook in ("_initialize_hook", "_load_hook"):
            if hasattr(layer, hook):
                getattr(layer, hook).remove()
                delattr(layer, hook)
        if become is not None:
            layer.__class__ = become


def settle(module: nn.Module, example: tuple[Tensor, ...], seed: int) -> None:
    """Run a first input through a module that is still lazy; its random weights follow from `seed`."""
    if not any(isinstance(layer, LazyModuleMixin) for layer in module.modules()):
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module(*example)
