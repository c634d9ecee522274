"""The zoo's architectures: which library makes each, at what input size, and how long it is trained.

Weights are trained by `train.py` on scikit-learn's digits: untrained ones say nothing about int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One architecture.

    Attributes:
        name: In the zoo's table.
        family: What its row stands under.
        maker: `timm`, `torchvision`, or `own` (nets.py).
        model: The maker's name of it.
        size: Height and width of the input in pixels.
        args: What the maker is called with besides.
        rate: Learning rate of AdamW.
    """

    name: str
    family: str
    maker: str
    model: str
    size: int = 64
    args: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 2e-3


def _timm(family: str, *names: str, size: int = 64, rate: float = 2e-3, **args: Any) -> list[Entry]:
    return [Entry(name, family, "timm", name, size, args, rate) for name in names]


def _torchvision(family: str, *names: str, size: int = 64, rate: float = 2e-3, **args: Any) -> list[Entry]:
    return [Entry(f"tv_{name}", family, "torchvision", name, size, args, rate) for name in names]


MOBILE = "mobile convolutional"
CLASSIC = "classic convolutional"
RETHOUGHT = "reparametrized and modern convolutional"
HYBRID = "convolution and attention"
TRANSFORMER = "vision transformer"

ENTRIES: tuple[Entry, ...] = (
    *_timm(MOBILE, "mobilenetv2_050", "mobilenetv2_100", "mobilenetv3_small_050", "mobilenetv3_small_100"),
    *_timm(MOBILE, "mobilenetv3_large_075", "mobilenetv4_conv_small", "efficientnet_lite0", "efficientnet_b0"),
    *_timm(MOBILE, "ghostnet_050", "ghostnetv2_100", "mnasnet_small", "lcnet_050", "tinynet_e", "fbnetc_100"),
    *_timm(MOBILE, "hardcorenas_a", "regnetx_002", "regnety_002", "semnasnet_075", "spnasnet_100", "mixnet_s"),
    *_torchvision(MOBILE, "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    *_torchvision(MOBILE, "mnasnet0_5", "squeezenet1_1", rate=5e-4),
    *_timm(CLASSIC, "resnet18", "resnet26", "densenet121", "res2net50_26w_4s", "seresnet18", "dpn48b", "selecsls42b"),
    *_torchvision(CLASSIC, "resnet18", "googlenet", "vgg11_bn", rate=5e-4),
    *_timm(RETHOUGHT, "repvgg_a0", "mobileone_s0", "repghostnet_050", "repvit_m0_9", "convnext_atto", "starnet_s050"),
    *_timm(RETHOUGHT, "hgnetv2_b0", "gernet_s", "edgenext_xx_small", "poolformer_s12", "convmixer_768_32", rate=1e-3),
    *_timm(HYBRID, "fastvit_t8", "mobilevit_xxs", "mobilevitv2_050", "efficientvit_b0", "lambda_resnet26t", rate=1e-3),
    *_timm(HYBRID, "mobilenetv4_hybrid_medium", "shvit_s1", rate=1e-3),
    *_timm(HYBRID, "efficientformer_l1", "efficientformerv2_s0", "levit_128s", size=224, rate=1e-3),
    *_timm(TRANSFORMER, "deit_tiny_patch16_224", "vit_tiny_patch16_224", "xcit_nano_12_p8_224", rate=5e-4, img_size=64),
    *_timm(TRANSFORMER, "mixer_s32_224", "pit_ti_224", rate=5e-4, img_size=64),
    *_timm(TRANSFORMER, "swin_tiny_patch4_window7_224", rate=5e-4, img_size=56, size=56),
    *_timm(TRANSFORMER, "tiny_vit_5m_224", size=224, rate=1e-3),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
