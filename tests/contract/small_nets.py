"""A model definition for the pruning tests: small networks put together from named blocks, weights from the seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs)
    # As after training: scales and running figures that differ from channel to channel.
    for value in (norm.weight, norm.running_var):
        nn.init.uniform_(value, 0.5, 1.5)
    for value in (norm.bias, norm.running_mean):
        nn.init.normal_(value, 0.0, 0.2)
    return nn.Sequential(layer, norm)


class Chain(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.body = conv(inputs, outputs, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).relu()


class Residual(nn.Module):
    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, inner), conv(inner, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).relu())).relu()


class Bottleneck(nn.Module):
    """Projected shortcut: the width may change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        inner = outputs // 2
        self.one, self.two, self.three = conv(inputs, inner, 1), conv(inner, inner, 3, stride), conv(inner, outputs, 1)
        self.shortcut = conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.three(self.two(self.one(x).relu()).relu())
        return (y + self.shortcut(x)).relu()


class Inverted(nn.Module):
    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.expand, self.depthwise = conv(inputs, inner, 1), conv(inner, inner, 3, groups=inner)
        self.project = conv(inner, inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.hardswish(self.depthwise(F.hardswish(self.expand(x)))))


class Depthwise(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise, self.pointwise = conv(inputs, inputs, 3, groups=inputs), conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x).relu()).relu()


class Dense(nn.Module):
    """The input and a branch, one after the other: the width grows."""

    def __init__(self, inputs: int, more: int) -> None:
        super().__init__()
        self.branch = conv(inputs, more)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x).relu()], 1)


class Padded(nn.Module):
    """Option A of He et al. 2015: strided slicing and zero channels instead of a projection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, outputs, stride=2), conv(outputs, outputs)
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return (self.second(self.first(x).relu()) + shortcut).relu()


class Shuffle(nn.Module):
    """ShuffleNet's: what the dependency graph does not see."""

    def __init__(self, inputs: int, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(inputs, inner, 1), nn.Conv2d(inner, inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Norm(nn.Module):
    def __init__(self, inputs: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


KEEP_WIDTH = {"residual": Residual, "inverted": Inverted, "shuffle": Shuffle, "gate": Gate, "norm": Norm}
CHANGE_WIDTH = {"chain": Chain, "bottleneck": Bottleneck, "depthwise": Depthwise, "padded": Padded}


class Net(nn.Module):
    def __init__(self, blocks: list[list[Any]], head: str, size: int, classes: int) -> None:
        super().__init__()
        width = 3
        self.blocks = nn.Sequential()
        for kind, number in blocks:
            if kind == "dense":
                self.blocks.append(Dense(width, number))
                width += number
            elif kind == "grouped":
                self.blocks.append(Chain(width, number, groups=4))
                width = number
            elif kind == "down":
                self.blocks.append(Chain(width, number, stride=2))
                width = number
            elif kind in KEEP_WIDTH:
                self.blocks.append(KEEP_WIDTH[kind](width, number))
            else:
                self.blocks.append(CHANGE_WIDTH[kind](width, number))
                width = number
        self.head = head
        down = sum(kind in ("down", "padded") for kind, _ in blocks)
        features = width * (size >> down) ** 2 if head == "flatten" else width
        self.classifier = nn.Linear(features, classes)
        self.second = nn.Linear(features, classes) if head == "two" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        x = x.flatten(1) if self.head == "flatten" else x.mean((2, 3))
        # Two heads that are added: both give the output.
        return self.classifier(x) if self.second is None else self.classifier(x) + self.second(x)


def build(blocks: list[list[Any]], head: str = "pool", size: int = 8, classes: int = 5) -> nn.Module:
    return Net(blocks, head, size, classes)
