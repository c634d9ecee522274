"""The smallest useful CNN: two convolutions, two max pools, one linear layer. Input 3×32×32 (CIFAR-10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def build(classes: int = 10) -> nn.Module:
    """Logits (N, classes) of images (N, 3, 32, 32)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, classes),
    )


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, 32, 32),)
