"""ESPCN (Shi et al. 2016) with a shortcut: twice the height and width, all convolutions at the small size."""

import torch
from torch import Tensor, nn


class Sharper(nn.Module):
    """Images (N, 3, 2H, 2W) of images (N, 3, H, W), both of 0 to 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, image: Tensor) -> Tensor:
        # What is learnt is the difference to a plain enlargement.
        return self.larger(image) + self.detail(image)


def build(width: int = 32) -> nn.Module:
    return Sharper(width)


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, 32, 32),)
