"""Silero VAD 6 for 16 kHz, written as silero-vad's own tinygrad_model.py: is there speech in these 32 ms.

The package silero-vad ships it as TorchScript, which cannot be traced anew; its weights are taken out of there. (Those
in silero_vad_16k.safetensors of the same package are of an older training: they answer otherwise.)
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

CONTEXT, CHUNK, HIDDEN = 64, 512, 128


class VoiceActivity(nn.Module):
    """How probable speech is, (N, 1), of a chunk of sound behind the last 64 samples of the one before it, (N, 576)."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        # nn.LSTMCell as two linear layers, which every runtime and quantizer knows.
        self.of_input, self.of_hidden = nn.Linear(128, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN)
        self.final_conv = nn.Conv1d(HIDDEN, 1, 1)

    def forward(self, sound: Tensor, hidden: Tensor, cell: Tensor) -> dict[str, Tensor]:
        waves = self.stft_conv(pad(sound, (0, 64), "reflect")[:, None])
        x = (waves[:, :129] ** 2 + waves[:, 129:] ** 2).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        gates = self.of_input(x[:, :, 0]) + self.of_hidden(hidden)
        let_in, forget, new, let_out = gates.chunk(4, 1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(let_in) * torch.tanh(new)
        hidden = torch.sigmoid(let_out) * torch.tanh(cell)
        speech = torch.sigmoid(self.final_conv(torch.relu(hidden)[:, :, None]))[:, :, 0]
        return {"speech": speech, "next_hidden": hidden, "next_cell": cell}


def weights() -> dict[str, Tensor]:
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the weights are in the package silero-vad: pip install --no-deps silero-vad==6.2.3")
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    trained = torch.jit.load(path, map_location="cpu").state_dict()
    layers = {
        "encoder.0.reparam_conv": "conv1",
        "encoder.1.reparam_conv": "conv2",
        "encoder.2.reparam_conv": "conv3",
        "encoder.3.reparam_conv": "conv4",
        "decoder.decoder.2": "final_conv",
    }
    names = {
        f"_model.{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in ("weight", "bias")
    }
    for part in ("weight", "bias"):
        names[f"_model.decoder.rnn.{part}_ih"] = f"of_input.{part}"
        names[f"_model.decoder.rnn.{part}_hh"] = f"of_hidden.{part}"
    names["_model.stft.forward_basis_buffer"] = "stft_conv.weight"
    return {ours: trained[theirs] for theirs, ours in names.items()}


def build() -> nn.Module:
    module = VoiceActivity()
    module.load_state_dict(weights())
    return module
