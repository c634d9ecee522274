"""A convolutional tagger of sequences; trained by the recipe, from nothing."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Each place and its neighbours, beside what came in."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 5, padding=2 * reach, dilation=reach, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


class Tagger(nn.Module):
    """Scores (N, T, tags) of token ids (N, T)."""

    def __init__(self, tokens: int, tags: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(Block(width, reach) for reach in (1, 2, 4)))
        self.head = nn.Conv1d(width, tags, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(ids).transpose(1, 2))).transpose(1, 2)


def build(tokens: int = 41, tags: int = 3, width: int = 64) -> nn.Module:
    return Tagger(tokens, tags, width)
