"""The CNN of many tutorials: two convolutions (3 → 64 → 128), a max pool after each, one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class TwoConv(nn.Module):
    """Logits (N, classes) of images (N, inputs, size, size), size a multiple of 4."""

    def __init__(self, inputs: int, channels: Sequence[int], size: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(channels[1] * (size // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(x.flatten(1))


def build(inputs: int = 3, channels: Sequence[int] = (64, 128), size: int = 32, classes: int = 10) -> nn.Module:
    return TwoConv(inputs, channels, size, classes)
