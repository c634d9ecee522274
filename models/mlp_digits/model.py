"""The multi-layer perceptron of every first tutorial: 784 → 256 → 10. Input 1×28×28."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Logits (N, classes) of images (N, 1, 28, 28); flattening is part of the model, so an app feeds it an image."""

    def __init__(self, pixels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(pixels, hidden)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


def build(hidden: int = 256, classes: int = 10) -> nn.Module:
    return MLP(28 * 28, hidden, classes)


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 1, 28, 28),)
