"""What the nets are trained by: (outputs, targets) → a scalar. Tensors have samples first, boxes are lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Targets = Mapping[str, Any]
PIXELS = 96  # height and width of images with boxes
KEYPOINT_PIXELS = 48
SMOOTHING = 0.1


def cross_entropy(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return _smoothed(outputs[0], targets["label"])


def pixels(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return _smoothed(outputs[0], targets["mask"].long())


def _smoothed(scores: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy with a tenth of each target spread over all classes, as these families are trained: without, a
    net that is right on few samples goes on to scores of 60. Less what no answer gets under, so that 0 is perfect."""
    classes = scores.shape[1]
    other = SMOOTHING / classes
    right = 1 - SMOOTHING + other
    least = -right * math.log(right) - (classes - 1) * other * math.log(other)
    return functional.cross_entropy(scores, wanted, label_smoothing=SMOOTHING) - least


def pictures(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    wanted = targets["image"]
    scale = 255 if wanted.dtype == torch.uint8 else 1
    return functional.l1_loss(outputs[0], wanted.permute(0, 3, 1, 2).float() / scale)


def peaks(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    """Each map is a distribution over its cells, whose peak shall be the keypoint's."""
    maps = outputs[0]
    side = maps.shape[-1]
    cells = (targets["keypoints"][:, 0, :, :2] * side / KEYPOINT_PIXELS).long().clamp(0, side - 1)
    return functional.cross_entropy(maps.flatten(0, 1).flatten(1), (cells[..., 1] * side + cells[..., 0]).flatten())


def points(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.smooth_l1_loss(outputs[0], targets["keypoints"][:, 0, :, :2])


def tags(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.cross_entropy(outputs[0].flatten(0, 1), targets["tags"].flatten())


def waves(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.mse_loss(outputs[0].flatten(1), targets["waveform"])


def one_logit(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs[0].flatten(), targets["label"].flatten().float())


def near(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    """Cosines of a batch's pairs, sharpened, against the same label or not."""
    vectors = functional.normalize(outputs[0])
    same = (targets["label"][:, None] == targets["label"][None]).float()
    return functional.binary_cross_entropy_with_logits(8 * (vectors @ vectors.T) - 4, same)


def labels(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs[0], targets["labels"].float())


def values(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    return functional.mse_loss(outputs[0].flatten(), targets["value"].flatten())


def yolo(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    """A head [N, 5, cells] of centre and size in pixels and a probability: the cell in which an object's middle lies
    answers for it."""
    head = outputs[0]
    return _assigned(head[:, :4], head[:, 4], [_centred(each) for each in targets["boxes"]])


def detection(outputs: Sequence[Tensor], targets: Targets) -> Tensor:
    """Boxes [N, cells, 4] as corners in pixels and scores [N, cells, 1]."""
    boxes, scores = outputs
    left_top, right_bottom = boxes[..., :2], boxes[..., 2:]
    centred = torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1).transpose(1, 2)
    return _assigned(centred, scores[..., -1], [_centred(each) for each in targets["boxes"]])


def _centred(boxes: Tensor) -> Tensor:
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)


def _assigned(boxes: Tensor, sure: Tensor, wanted: Sequence[Tensor]) -> Tensor:
    """boxes: [N, 4, cells] as centre and size. The three cells whose boxes are nearest to an object answer for it."""
    goal, off = torch.zeros_like(sure), boxes.new_zeros(())
    for sample, objects in enumerate(wanted):
        for each in objects:
            distance = ((boxes[sample].detach() - each[:, None]) / PIXELS).abs().sum(0)
            for cell in distance.topk(3, largest=False).indices:
                goal[sample, cell] = 1
                off = off + functional.smooth_l1_loss(boxes[sample, :, cell] / PIXELS * 8, each / PIXELS * 8)
    found = functional.binary_cross_entropy(sure.clamp(1e-4, 1 - 1e-4), goal, reduction="sum")
    return (off + found) / max(1, sum(map(len, wanted)))
