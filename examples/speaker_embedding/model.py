"""Resemblyzer's voice encoder (GE2E, Wan et al. 2018): three LSTM layers over mel bands, and a vector for the voice.

Resemblyzer's package brings the weights; it is not imported, as that needs librosa and webrtcvad.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

FRAMES, BANDS = 160, 40


class VoiceEncoder(nn.Module):
    """Vectors of length 1, (N, 256), of 1.6 s as natural logarithms of 40 mel bands, (N, 160, 40)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, log_mel: Tensor) -> Tensor:
        # It was trained on energies, not on their logarithms; those are what int8 or a fixed-point front end can hold.
        _, (hidden, _) = self.lstm(log_mel.exp())
        vector = torch.relu(self.linear(hidden[-1]))
        return vector / vector.norm(dim=1, keepdim=True)


def weights() -> dict[str, Tensor]:
    package = find_spec("resemblyzer")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "the weights are in the package Resemblyzer: pip install --no-deps Resemblyzer==0.1.4"
        )
    path = Path(package.submodule_search_locations[0]) / "pretrained.pt"
    trained = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    # What is left out belongs to the loss that it was trained by.
    return {name: value for name, value in trained.items() if not name.startswith("similarity_")}


def build() -> nn.Module:
    module = VoiceEncoder()
    module.load_state_dict(weights())
    return module


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, FRAMES, BANDS),)
