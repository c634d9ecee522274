"""Small inputs: pairs, embeddings, several labels, numbers in a table."""

from __future__ import annotations

from torch import Tensor, nn


def features(width: int = 16) -> nn.Sequential:
    """From a digit, [N, 1, 8, 8], to a vector."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * width, 32),
    )  # fmt: skip


class Siamese(nn.Module):
    """Koch et al. 2015: one net for both, and a judge of how far apart they are."""

    def __init__(self) -> None:
        super().__init__()
        self.net = features()
        self.judge = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.judge((self.net(first) - self.net(second)).abs())


class Embedding(nn.Module):
    """A vector of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = features()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.net(x), dim=1)


class Labels(nn.Module):
    """Several labels of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(features(), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Mlp(nn.Module):
    """Numbers to a number."""

    def __init__(self, inputs: int = 10, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]
