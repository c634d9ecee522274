"""A small CNN in the style of phone models: residual and inverted-residual blocks. Input 1×32×32."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its batch norm, which the exporters fold into one."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*conv_bn(channels, channels, 3), nn.ReLU(), *conv_bn(channels, channels, 3))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.conv(x))


class InvertedResidual(nn.Module):
    """1×1 expand, 3×3 depthwise, 1×1 project; a shortcut where the shapes agree (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expand: int = 4) -> None:
        super().__init__()
        hidden = inputs * expand
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *conv_bn(inputs, hidden, 1),
            nn.ReLU(),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(),
            *conv_bn(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class DigitsCNN(nn.Module):
    """Logits (N, classes) of grayscale images (N, 1, 32, 32)."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(1, width, 3, stride=2), nn.ReLU())
        self.residual = Residual(width)
        self.down1 = InvertedResidual(width, 2 * width, stride=2)
        self.inverted = InvertedResidual(2 * width, 2 * width)
        self.down2 = InvertedResidual(2 * width, 3 * width, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(3 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual(self.stem(x))
        x = self.down2(self.inverted(self.down1(x)))
        return self.classifier(self.pool(x).flatten(1))


def build(width: int = 32, classes: int = 10) -> nn.Module:
    return DigitsCNN(width, classes)


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 1, 32, 32),)
