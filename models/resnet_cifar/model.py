"""ResNet-20/32/44/56 for small images (He et al. 2015, "Deep Residual Learning", section 4.2). Input 3×32×32."""

from __future__ import annotations

from torch import Tensor, nn

SHORTCUTS = ("A", "B")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut.

    Where a stage halves the image and doubles the channels, shortcut A takes every second pixel and fills the new
    channels with zeros (no weights: the paper's choice for CIFAR-10), B is a strided 1×1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.stride = stride
        self.downsample: nn.Module | None = None
        if shortcut == "B" and (stride != 1 or inputs != outputs):
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.short_cut(x, y.shape[1]))

    def short_cut(self, x: Tensor, channels: int) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        # How many zeros follows from the shapes, not from a number fixed at birth, and they come last: channel k stays
        # channel k on both sides.
        missing = channels - x.shape[1]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x


class ResNet(nn.Module):
    """Logits (N, classes) of images (N, channels, H, W): 6n+2 weighted layers, n blocks in each of three stages."""

    def __init__(self, blocks: int, shortcut: str, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = stage(blocks, width, width, 1, shortcut)
        self.layer2 = stage(blocks, width, 2 * width, 2, shortcut)
        self.layer3 = stage(blocks, 2 * width, 4 * width, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.pool(x).flatten(1))


def stage(blocks: int, inputs: int, outputs: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))


def build(depth: int = 20, shortcut: str = "A", width: int = 16, classes: int = 10, channels: int = 3) -> nn.Module:
    """depth: 20, 32, 44, 56 (or any other 6n+2). width: channels of the first stage, 16 in the paper."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n+2 with n of 1 or more (20, 32, 44, 56 …), found {depth}")
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut must be 'A' or 'B', found {shortcut!r}")
    return ResNet((depth - 2) // 6, shortcut, width, classes, channels)
