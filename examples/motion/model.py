"""A 1-D convolutional net over six channels of motion; trained by the recipe, from nothing."""

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Half as many steps, at twice the sight."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()
    )


class Motion(nn.Module):
    """Logits (N, 4) of recordings (N, T, 6), as sensors give them: steps first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(block(6, width), block(width, width), block(width, width))
        self.drop = nn.Dropout(0.3)
        self.classifier = nn.Linear(width, 4)

    def forward(self, motion: Tensor) -> Tensor:
        return self.classifier(self.drop(self.features(motion.transpose(1, 2)).mean(2)))


def build(width: int = 32) -> nn.Module:
    return Motion(width)


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 100, 6),)
