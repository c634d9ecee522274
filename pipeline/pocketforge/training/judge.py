"""How good a PyTorch model is on samples: its accuracy and its loss. Of outputs that are arrays, see `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pocketforge.training.batches import Batch
from pocketforge.training.losses import Loss, checked_outputs


def top1(model: Callable[..., object], batches: Iterable[Batch]) -> float:
    """Top-1 accuracy of `model` (of a module in eval mode), 0 to 1. Raises ModelError for what are no logits of these
    classes.
    """
    right = samples = 0
    with _judging(model):
        for inputs, targets in batches:
            right += int((checked_outputs(model(*inputs), targets, "classification").argmax(1) == targets).sum())
            samples += len(targets)
    return right / samples


def mean_loss(module: nn.Module, batches: Iterable[Batch], loss: Loss) -> float:
    """The loss of `module` in eval mode, over all samples."""
    total = samples = 0.0
    with _judging(module):
        for inputs, targets in batches:
            total += float(loss(module(*inputs), targets)) * len(targets)
            samples += len(targets)
    return total / samples


def loss_and_top1(module: nn.Module, batches: Iterable[Batch], loss: Loss) -> tuple[float, float]:
    """`mean_loss` and `top1` of a classifier, each sample computed once. Raises ModelError as `top1`."""
    total, right, samples = 0.0, 0, 0
    with _judging(module):
        for inputs, targets in batches:
            outputs = module(*inputs)
            total += float(loss(outputs, targets)) * len(targets)
            right += int((checked_outputs(outputs, targets, "classification").argmax(1) == targets).sum())
            samples += len(targets)
    return total / samples, right / samples


@contextmanager
def _judging(model: Callable[..., object]) -> Iterator[None]:
    switched = model if isinstance(model, nn.Module) and model.training else None
    if switched is not None:  # a traced graph, which never trains, refuses to be asked
        switched.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if switched is not None:
            switched.train()
