"""From pictures to pictures: segmentation, super-resolution, denoising, autoencoding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions with batch norm, as a U-Net has them."""
    parts: list[nn.Module] = []
    for width in (inputs, outputs):
        parts += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded. up: how maps are enlarged: "transposed", "nearest" or "bilinear"."""

    def __init__(self, outputs: int, width: int = 12, up: str = "transposed") -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(block(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        self.bottom = block(widths[-1], widths[-1])
        self.up = nn.ModuleList(self._enlarging(up, w) for w in widths[::-1])
        self.joined = nn.ModuleList(block(2 * w, max(width, w // 2)) for w in widths[::-1])
        self.head = nn.Conv2d(width, outputs, 1)

    @staticmethod
    def _enlarging(up: str, width: int) -> nn.Module:
        if up == "transposed":
            return nn.ConvTranspose2d(width, width, 2, stride=2)
        return nn.Upsample(scale_factor=2, mode=up, **({"align_corners": False} if up == "bilinear" else {}))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, joined in zip(self.up, self.joined, strict=True):
            x = joined(torch.cat([up(x), kept.pop()], 1))
        return self.head(x)


class Denoiser(nn.Module):
    """A U-Net that gives what to add."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(3, 8, "bilinear")

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.net(x)).clamp(0, 1)


class Espcn(nn.Module):
    """Shi et al. 2016: pixels are shuffled at the end."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2), nn.Tanh(), nn.Conv2d(width, width // 2, 3, padding=1), nn.Tanh()
        )
        self.head = nn.Conv2d(width // 2, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.head(self.features(x)), 2)


class Fsrcnn(nn.Module):
    """Dong et al. 2016: PReLU, and a transposed convolution at the end."""

    def __init__(self, width: int = 24, narrow: int = 8) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, width, 5, padding=2), nn.PReLU(width)]
        parts += [nn.Conv2d(width, narrow, 1), nn.PReLU(narrow)]
        for _ in range(2):
            parts += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)]
        parts += [nn.Conv2d(narrow, width, 1), nn.PReLU(width)]
        self.features = nn.Sequential(*parts)
        self.head = nn.ConvTranspose2d(width, 3, 9, stride=2, padding=4, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Edsr(nn.Module):
    """Lim et al. 2017, small: residuals without norms, beside the enlarged input."""

    def __init__(self, width: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.head = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        for each in self.blocks:
            features = features + each(features)
        enlarged = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return enlarged + functional.pixel_shuffle(self.head(features), 2)


class DnCnn(nn.Module):
    """Zhang et al. 2017: what it gives is taken away."""

    def __init__(self, width: int = 24, depth: int = 4) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            parts += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.net = nn.Sequential(*parts, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.net(x)


class Autoencoder(nn.Module):
    """Convolutions with strides down to a short vector, transposed ones back."""

    def __init__(self, code: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, code),
        )  # fmt: skip
        self.widen = nn.Linear(code, 128)
        self.decoder = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.widen(self.encoder(x)).reshape(-1, 32, 2, 2))


class Segmenter(nn.Module):
    """A torchvision segmenter without its dict."""

    def __init__(self, model: str, **args: Any) -> None:
        super().__init__()
        from zoo.makers import torchvision

        builders = torchvision().models.segmentation
        self.net = getattr(builders, model)(weights=None, weights_backbone=None, num_classes=3, **args)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)["out"]


class Pyramid(nn.Module):
    """A backbone of timm with a feature pyramid (Lin et al. 2017) that segments."""

    def __init__(self, backbone: str, width: int = 32) -> None:
        super().__init__()
        from zoo.makers import from_timm

        self.backbone = from_timm(backbone, num_classes=0, features_only=True)
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, 1) for n in self.backbone.feature_info.channels())
        self.smooth = block(width, width)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [lateral(m) for lateral, m in zip(self.lateral, self.backbone(x), strict=True)]
        joined = maps.pop()
        while maps:
            larger = maps.pop()
            joined = larger + functional.interpolate(joined, size=larger.shape[-2:], mode="nearest")
        return functional.interpolate(
            self.head(self.smooth(joined)), size=x.shape[-2:], mode="bilinear", align_corners=False
        )
