"""How much a channel matters: Torch-Pruning's criteria over a whole group of coupled layers.

Each gives one number a channel, divided by the group's mean, so that groups of different layers can be ranked together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.pruning.depgraph import Group, Item, Scorer, torch_pruning

if TYPE_CHECKING:
    from pocketforge.pruning.base import Subject


def make_scorer(name: str, seed: int) -> Scorer:
    """A group of the dependency graph → importance of each of its root's channels, or None where it has none.

    l1, l2: group norm (Fang et al. 2023). taylor: |weight × gradient| (Molchanov et al. 2019), of the gradients that
    `accumulate_gradients` left. bn_scale: batch norm's scale (Liu et al. 2017). fpgm: distance to the other filters
    (He et al. 2019). random: from `seed`, in the order of the calls.
    """
    library = torch_pruning().pruner.importance
    if name == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    kinds: dict[str, Callable[[], Scorer]] = {
        "l1": lambda: library.GroupMagnitudeImportance(p=1),
        "l2": lambda: library.GroupMagnitudeImportance(p=2),
        "taylor": lambda: library.GroupTaylorImportance(),
        "bn_scale": lambda: library.BNScaleImportance(),
        "fpgm": lambda: library.FPGMImportance(),
    }
    score = kinds[name]()

    def finite(group: Group) -> Tensor | None:
        # FPGMImportance of torch-pruning 1.6.1 fails on the inputs of a grouped convolution: its filters are enough.
        scores = score([item for item in group if not _grouped_input(item)] if name == "fpgm" else group)
        # A group of zeros has no mean to divide by: all its channels matter alike, and not at all.
        return None if scores is None else torch.nan_to_num(scores.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)

    return finite


def accumulate_gradients(module: nn.Module, subject: Subject) -> None:
    """Leave in `module` (a copy of the subject's) the gradients of the loss, summed over the calibration samples.

    Raises ModelError when the loss is no finite scalar.
    """
    module.zero_grad()
    with torch.enable_grad():
        for inputs, targets in subject.batches:
            loss = subject.loss(module(*inputs), targets)
            if loss.ndim != 0:
                raise ModelError(
                    f"importance taylor needs a scalar loss, found shape {list(loss.shape)}",
                    "reduce the loss to its mean",
                )
            if not torch.isfinite(loss):
                raise ModelError(f"importance taylor: the loss of the calibration samples is {float(loss)}")
            # The mean of a batch counts as often as the batch has samples.
            (loss * len(targets)).backward()
    for parameter in module.parameters():
        if parameter.grad is None:  # not used in this forward
            parameter.grad = torch.zeros_like(parameter)


def _grouped_input(item: Item) -> bool:
    layer = item.dep.target.module
    grouped = isinstance(layer, nn.modules.conv._ConvNd) and 1 < layer.groups != layer.in_channels
    return grouped and bool(item.dep.handler == torch_pruning().prune_conv_in_channels)
