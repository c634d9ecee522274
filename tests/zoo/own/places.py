"""Where things are: detectors and keypoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), act()
    )


class Split(nn.Module):
    """YOLOv8's C2f: one half goes through bottlenecks, and all their maps are put side by side."""

    def __init__(self, width: int, count: int = 1) -> None:
        super().__init__()
        half = width // 2
        self.first = conv(width, width, 1)
        self.blocks = nn.ModuleList(nn.Sequential(conv(half, half), conv(half, half)) for _ in range(count))
        self.last = conv((2 + count) * half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.first(x).chunk(2, 1))
        for each in self.blocks:
            maps.append(maps[-1] + each(maps[-1]))
        return self.last(torch.cat(maps, 1))


class Pooled(nn.Module):
    """SPPF: the same maximum three times, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = conv(width, width // 2, 1), conv(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.first(x)]
        for _ in range(3):
            maps.append(functional.max_pool2d(maps[-1], 5, 1, 2))
        return self.last(torch.cat(maps, 1))


class Yolo(nn.Module):
    """YOLO-like: a backbone, a neck that goes up and down again, two levels, one head [N, 5, cells] of centre, size and
    how sure, in pixels. anchors: as YOLOv5 has it, offsets in a cell and sizes by squares; else distances as YOLOX."""

    def __init__(self, width: int = 16, v5: bool = False, size: int = 96) -> None:
        super().__init__()
        self.v5 = v5
        w = width
        self.stem = nn.Sequential(conv(3, w, 3, 2), conv(w, 2 * w, 3, 2), Split(2 * w))
        self.eighth = nn.Sequential(conv(2 * w, 4 * w, 3, 2), Split(4 * w))
        self.sixteenth = nn.Sequential(conv(4 * w, 4 * w, 3, 2), Split(4 * w), Pooled(4 * w))
        self.up = nn.Sequential(conv(8 * w, 4 * w, 1), Split(4 * w))
        self.down = conv(4 * w, 4 * w, 3, 2)
        self.join = nn.Sequential(conv(8 * w, 4 * w, 1), Split(4 * w))
        self.heads = nn.ModuleList(nn.Conv2d(4 * w, 5, 1) for _ in range(2))
        places, strides = [], []
        for stride in (8, 16):
            rows, columns = torch.meshgrid(*[torch.arange(size // stride)] * 2, indexing="ij")
            places.append((torch.stack([columns, rows]).flatten(1) + 0.5) * stride)
            strides.append(torch.full((1, (size // stride) ** 2), float(stride)))
        self.register_buffer("places", torch.cat(places, 1), persistent=False)
        self.register_buffer("strides", torch.cat(strides, 1), persistent=False)
        for head in self.heads:
            nn.init.constant_(head.bias, 0.0)
            nn.init.constant_(head.bias[4:], -3.0)

    def forward(self, x: Tensor) -> Tensor:
        eighth = self.eighth(self.stem(x))
        sixteenth = self.sixteenth(eighth)
        enlarged = functional.interpolate(sixteenth, scale_factor=2.0, mode="nearest")
        fine = self.up(torch.cat([enlarged, eighth], 1))
        coarse = self.join(torch.cat([self.down(fine), sixteenth], 1))
        raw = torch.cat([head(m).flatten(2) for head, m in zip(self.heads, (fine, coarse), strict=True)], 2)
        if self.v5:
            centre = (raw[:, :2].sigmoid() * 2 - 1) * self.strides + self.places
            size = (raw[:, 2:4].sigmoid() * 2) ** 2 * 2 * self.strides
        else:
            centre = raw[:, :2] * self.strides + self.places
            size = raw[:, 2:4].clamp(-3, 3).exp() * 2 * self.strides
        return torch.cat([centre, size, raw[:, 4:].sigmoid()], 1)


class SsdLite(nn.Module):
    """torchvision's SSDlite as it runs before its suppression: boxes as corners in pixels, and how sure each is."""

    def __init__(self, size: int = 96) -> None:
        super().__init__()
        from zoo.makers import torchvision

        tv = torchvision()
        self.net = tv.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
        image = torch.zeros(1, 3, size, size)
        self.net.eval()
        with torch.no_grad():
            maps = list(self.net.backbone(image).values())
            images = tv.models.detection.image_list.ImageList(image, [(size, size)])
            anchors = self.net.anchor_generator(images, maps)[0]
        self.register_buffer("middles", (anchors[:, :2] + anchors[:, 2:]) / 2, persistent=False)
        self.register_buffer("sizes", anchors[:, 2:] - anchors[:, :2], persistent=False)

    def forward(self, x: Tensor) -> Any:
        maps = list(self.net.backbone(x).values())
        found = self.net.head(maps)
        offsets = found["bbox_regression"]
        middles = offsets[..., :2] / 10 * self.sizes + self.middles
        halves = (offsets[..., 2:] / 5).clamp(-4, 4).exp() * self.sizes / 2
        boxes = torch.cat([middles - halves, middles + halves], -1)
        return {"boxes": boxes, "scores": found["cls_logits"].softmax(-1)[..., 1:]}


class Heatmaps(nn.Module):
    """Simple Baselines (Xiao et al. 2018), small: down by strides, up by transposed convolutions, a map a keypoint."""

    def __init__(self, width: int = 24, count: int = 2) -> None:
        super().__init__()
        relu = nn.ReLU
        self.down = nn.Sequential(
            conv(3, width, 3, 2, relu), conv(width, 2 * width, 3, 2, relu), conv(2 * width, 2 * width, 3, 2, relu)
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), relu(),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), relu(),
        )  # fmt: skip
        self.head = nn.Conv2d(width, count, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(self.down(x)))


class Points(nn.Module):
    """A backbone of timm that gives keypoints in pixels, as face landmarks are found on phones."""

    def __init__(self, backbone: str, count: int = 2, pixels: int = 48) -> None:
        super().__init__()
        from zoo.makers import from_timm

        self.net = from_timm(backbone, num_classes=2 * count)
        self.count, self.pixels = count, pixels

    def forward(self, x: Tensor) -> Tensor:
        # Not through a sigmoid: it goes to its ends within the first steps, and stays there.
        return ((self.net(x) / 10 + 0.5) * self.pixels).reshape(-1, self.count, 2)
