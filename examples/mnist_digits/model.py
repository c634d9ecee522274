"""A small convolutional classifier of 28×28 digits; trained by the recipe, from nothing."""

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution, its batch norm (which exporters fold into it), and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Digits(nn.Module):
    """Logits (N, 10) of images (N, 1, 28, 28)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(1, width, 2), block(width, 2 * width, 1), block(2 * width, 2 * width, 2), block(2 * width, 64, 2)
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


def build(width: int = 16) -> nn.Module:
    return Digits(width)


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 1, 28, 28),)
