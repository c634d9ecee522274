"""R-Net, the second stage of MTCNN (Zhang et al. 2016), as facenet-pytorch has it: is it a face, and where in the crop.

facenet-pytorch's package brings the weights; it is not imported, as that needs a torchvision that fits torch.
"""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn


class RNet(nn.Module):
    """Of crops (N, 3, 24, 24): how probable a face is, (N, 1), and how its box differs, (N, 4), in shares."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, crop: Tensor) -> dict[str, Tensor]:
        x = self.pool1(self.prelu1(self.conv1(crop)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(x.permute(0, 3, 2, 1).flatten(1)))
        return {"face": torch.softmax(self.dense5_1(x), 1)[:, 1:], "box": self.dense5_2(x)}


def weights() -> OrderedDict[str, Tensor]:
    package = find_spec("facenet_pytorch")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "the weights are in the package facenet-pytorch: pip install --no-deps facenet-pytorch==2.6.0"
        )
    path = Path(package.submodule_search_locations[0]) / "data" / "rnet.pt"
    return torch.load(path, map_location="cpu", weights_only=True)


def build() -> nn.Module:
    module = RNet()
    module.load_state_dict(weights())
    return module


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, 24, 24),)
