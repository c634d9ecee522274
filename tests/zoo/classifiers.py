"""Image classifiers of timm and torchvision, by family."""

from __future__ import annotations

from typing import Any

from zoo.entries import Net
from zoo.makers import from_timm, from_torchvision
from zoo.tasks import DIGITS


def _timm(family: str, *names: str, size: int = 64, rate: float = 2e-3, steps: int = 250, **args: Any) -> list[Net]:
    return [Net(n, family, DIGITS, from_timm, {"model": n, **args}, size, steps, rate) for n in names]


def _torchvision(family: str, *names: str, rate: float = 2e-3, **args: Any) -> list[Net]:
    return [Net(f"tv_{n}", family, DIGITS, from_torchvision, {"model": n, **args}, 64, 250, rate) for n in names]


MOBILE = "mobile convolutional"
CLASSIC = "classic convolutional"
MODERN = "reparametrized and modern convolutional"
HYBRID = "convolution and attention"
TRANSFORMER = "vision transformer"

NETS = (
    *_timm(MOBILE, "mobilenetv3_small_050", "mobilenetv2_050", "mobilenetv4_conv_small", "lcnet_050", "ghostnet_050"),
    *_timm(MOBILE, "efficientnet_lite0", "efficientnet_b0", "mnasnet_small", "tinynet_e", "regnetx_002", "regnety_002"),
    *_timm(
        MOBILE, "mobilenetv3_large_075", "semnasnet_075", "fbnetc_100", "hardcorenas_a", "ghostnetv2_100", "mixnet_s"
    ),
    *_torchvision(MOBILE, "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    *_torchvision(MOBILE, "mnasnet0_5"),
    *_torchvision(CLASSIC, "squeezenet1_1", "resnet18", rate=5e-4),
    *_torchvision(CLASSIC, "googlenet", rate=5e-4, aux_logits=False, init_weights=True),
    *_timm(CLASSIC, "resnet10t", "resnet26", "densenet121", "seresnet18", "selecsls42b", "res2net50_26w_4s"),
    *_timm(MODERN, "repvgg_a0", "mobileone_s0", "repghostnet_050", "repvit_m0_9", "convnext_atto", "starnet_s050"),
    *_timm(MODERN, "hgnetv2_b0", "gernet_s", "edgenext_xx_small", "poolformer_s12", rate=1e-3),
    *_timm(HYBRID, "fastvit_t8", "mobilevit_xxs", "mobilevitv2_050", "efficientvit_b0", "shvit_s1", rate=1e-3),
    *_timm(HYBRID, "efficientvit_m0", "mobilenetv4_hybrid_medium", rate=1e-3),
    *_timm(HYBRID, "efficientformer_l1", "efficientformerv2_s0", "levit_128s", size=224, rate=1e-3, steps=40),
    *_timm(TRANSFORMER, "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "mixer_s32_224", rate=5e-4, img_size=64),
    *_timm(TRANSFORMER, "swin_tiny_patch4_window7_224", size=56, rate=5e-4, steps=60, img_size=56),
)
