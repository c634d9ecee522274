"""Signals in time: recurrent nets, convolutions in one dimension, keyword spotters, a denoiser of waves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """A GRU or an LSTM over (N, T, features), whose last step is classified; `both`: forwards and backwards."""

    def __init__(self, kind: str, features: int = 8, width: int = 32, classes: int = 10, both: bool = False) -> None:
        super().__init__()
        self.net = getattr(nn, kind)(features, width, batch_first=True, bidirectional=both)
        self.head = nn.Linear(width * (2 if both else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[0][:, -1])


class ConvLstm(nn.Module):
    """DeepConvLSTM (Ordóñez and Roggen 2016), small: convolutions in time, then an LSTM."""

    def __init__(self, channels: int = 3, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, width, 5, stride=2), nn.ReLU(), nn.Conv1d(width, width, 5, stride=2), nn.ReLU()
        )
        self.net = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(self.features(x).transpose(1, 2))[0][:, -1])


class HarCnn(nn.Module):
    """Activity from windows of sensors: convolutions and pools in one dimension."""

    def __init__(self, channels: int = 3, width: int = 24, classes: int = 4) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for inputs in (channels, width, width):
            parts += [nn.Conv1d(inputs, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2)]
        self.features = nn.Sequential(*parts)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(2))


class Tcn(nn.Module):
    """Bai et al. 2018: causal convolutions that are wider apart from block to block, with residuals."""

    def __init__(self, channels: int = 3, width: int = 24, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv1d(channels, width, 1)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**n) for n in range(5))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for each in self.blocks:
            x = x + functional.relu(each(functional.pad(x, (2 * each.dilation[0], 0))))
        return self.head(x[:, :, -1])


class M5(nn.Module):
    """Dai et al. 2017: raw sound, a long first kernel."""

    def __init__(self, width: int = 16, classes: int = 2) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv1d(1, width, 80, stride=4), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(4)]
        for inputs, outputs in ((width, width), (width, 2 * width)):
            parts += [nn.Conv1d(inputs, outputs, 3), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(4)]
        self.features = nn.Sequential(*parts)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(functional.avg_pool1d(x, x.shape[-1]).flatten(1))


class DsCnn(nn.Module):
    """A keyword spotter (Zhang et al. 2017): frames of the wave by a learnt filter bank, depthwise convolutions."""

    def __init__(self, width: int = 24, classes: int = 2) -> None:
        super().__init__()
        self.bank = nn.Conv1d(1, 20, 64, stride=32)
        parts: list[nn.Module] = [nn.Conv2d(1, width, (4, 8), stride=2), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(3):
            parts += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), nn.ReLU()]
            parts += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(torch.log(self.bank(x).square() + 1e-2)[:, None])


class Pcen(nn.Module):
    """A learnt front end: per-channel energy normalization (Wang et al. 2017), its smoothing and powers learnt too."""

    def __init__(self, bands: int = 20, width: int = 24, classes: int = 2) -> None:
        super().__init__()
        self.bank = nn.Conv1d(1, bands, 64, stride=32)
        starts = {"smoothing": -3.2, "alpha": -0.02, "delta": 0.7, "root": -0.7}
        self.logs = nn.ParameterDict({name: torch.full((bands,), start) for name, start in starts.items()})
        self.net = nn.Sequential(
            nn.Conv1d(bands, width, 3), nn.ReLU(), nn.Conv1d(width, width, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        energy = self.bank(x).square()
        smoothing, alpha, delta, root = (self.logs[n].exp()[:, None] for n in ("smoothing", "alpha", "delta", "root"))
        before = [energy[:, :, :1]]
        for step in range(1, energy.shape[2]):
            before.append((1 - smoothing) * before[-1] + smoothing * energy[:, :, step : step + 1])
        level = (torch.cat(before, 2) + 1e-6) ** alpha
        return self.net((energy / level + delta) ** root - delta**root)


class ConvTasNet(nn.Module):
    """Luo and Mesgarani 2019, small: an encoder, a mask from dilated depthwise convolutions, a decoder."""

    def __init__(self, basis: int = 32, width: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, basis, 16, stride=8, bias=False)
        self.stem = nn.Sequential(nn.GroupNorm(1, basis), nn.Conv1d(basis, width, 1))
        self.blocks = nn.ModuleList(self._block(width, 2**n) for n in range(3))
        self.mask = nn.Conv1d(width, basis, 1)
        self.decoder = nn.ConvTranspose1d(basis, 1, 16, stride=8, bias=False)

    @staticmethod
    def _block(width: int, dilation: int) -> Any:
        return nn.Sequential(
            nn.Conv1d(width, width, 1), nn.PReLU(), nn.GroupNorm(1, width),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, groups=width), nn.PReLU(),
            nn.GroupNorm(1, width), nn.Conv1d(width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        frames = self.encoder(x)
        features = self.stem(frames)
        for each in self.blocks:
            features = features + each(features)
        return self.decoder(frames * self.mask(features).sigmoid())
