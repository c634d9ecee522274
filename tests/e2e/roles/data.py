"""Digits (real scans) with a target for every role, each made from the picture or from its label."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

COUNT = 500
NAMES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


class Digits:
    def __init__(self) -> None:
        digits = load_digits()
        self.images = digits.images.astype(np.float32) / 16
        self.labels = digits.target

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, label = self.images[index], int(self.labels[index])
        return image[None], targets_of(image, label)


def targets_of(image: Any, label: int) -> dict[str, Any]:
    mask = image > 0.5
    rows, columns = np.nonzero(mask)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    middle = [columns.mean() + 0.5, rows.mean() + 0.5, 2]
    area = np.asarray([64.0], np.float32)
    return {
        "label": label,
        "labels": np.asarray([label % 2, label > 4, label in (2, 3, 5, 7)], np.uint8),
        "odd": label % 2,
        "value": np.float32(image.mean()),
        "mask": mask.astype(np.uint8),
        "keypoints": np.asarray([[middle]], np.float32),
        "areas": area,
        "tags": (mask.sum(1) > 2).astype(np.int64),
        "text": NAMES[label],
        "image": image[:, :, None],
        "waveform": image.reshape(-1) - 0.3,
        "boxes": np.asarray([corners], np.float32),
        "classes": np.asarray([label]),
        "crowd": np.asarray([False]),
    }


def samples() -> Digits:
    return Digits()
