"""One net with a head for every role: fixed random features of a digit, and linear heads on them (fit.py)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 400
# Head → how many values it answers.
HEADS = {
    "number": 10, "traits": 3, "odd": 1, "ink": 1, "ink_mask": 64, "middle": 2, "peak": 64, "vector": 10, "rows": 16,
    "letters": 88, "picture": 64, "sound": 64, "box": 4, "sure": 10,
}  # fmt: skip


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(64, FEATURES)
        self.memory = nn.Linear(FEATURES, 8)
        for name, size in HEADS.items():
            setattr(self, name, nn.Linear(FEATURES, size))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.relu(self.features(x.flatten(1)))
        answers = {name: getattr(self, name)(y) for name in HEADS}
        shapes = {
            "ink_mask": (-1, 1, 8, 8), "middle": (-1, 1, 2), "peak": (-1, 1, 8, 8), "rows": (-1, 8, 2),
            "letters": (-1, 8, 11), "picture": (-1, 1, 8, 8), "box": (-1, 1, 4), "sure": (-1, 1, 10),
        }  # fmt: skip
        shaped = (answers[name].reshape(shapes.get(name, (-1, HEADS[name]))) for name in HEADS)
        return (*shaped, self.memory(y))


def build() -> nn.Module:
    torch.manual_seed(0)
    return Heads().eval()
