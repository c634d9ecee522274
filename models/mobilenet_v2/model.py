"""MobileNetV2 (Sandler et al., 2018). The state dict has torchvision's names and shapes, so its weights load.

Input 3×224×224, normalised with mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# expansion, channels, blocks, stride of the first block
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of 8, never more than a tenth below."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1×1 expand, 3×3 depthwise, 1×1 project; a shortcut where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = round(inputs * expand)
        self.use_res_connect = stride == 1 and inputs == outputs
        layers: list[nn.Module] = [] if expand == 1 else [conv_bn_relu(inputs, hidden, kernel=1)]
        layers += [
            conv_bn_relu(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """Logits (N, classes) of images (N, 3, H, W), H and W 32 or more."""

    def __init__(self, classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        channels = round_channels(32 * width)
        last = round_channels(1280 * max(1.0, width))
        layers: list[nn.Module] = [conv_bn_relu(3, channels, stride=2)]
        for expand, stage_channels, blocks, first_stride in STAGES:
            outputs = round_channels(stage_channels * width)
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outputs, first_stride if block == 0 else 1, expand))
                channels = outputs
        layers.append(conv_bn_relu(channels, last, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(x)


def build(classes: int = 1000, width: float = 1.0, seed: int = 0) -> nn.Module:
    """Random weights drawn with `seed`, with batch-norm statistics settled on noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settle_batch_norm(MobileNetV2(classes, width))


def settle_batch_norm(model: nn.Module) -> nn.Module:
    """Give random weights statistics that fit them.

    With the initial ones (mean 0, variance 1) activations shrink layer by layer to 1e-8, which no trained net's do, and
    no int8 runtime can hold their scales: ORT and tflite-runtime compute nonsense or refuse.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # plain averages: one pass sets them
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 96, 96))
    for norm in norms:
        norm.momentum = 0.1
        norm.num_batches_tracked.zero_()
    return model.eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, 224, 224),)
