"""Patches of the two photographs that come with scikit-learn, and the same at half the size.

The left two thirds of each are to train on, the right third is judged: no pixel is in both.
"""

import numpy as np

SIZE = 64


def patches() -> dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]]:
    """Of each split: uint8 (32, 32, 3), and as the target `image` uint8 (64, 64, 3)."""
    from sklearn.datasets import load_sample_image

    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]  # 427 × 640 × 3
    seams = [photo.shape[1] * 2 // 3 for photo in photos]
    train = [photo[:, :seam] for photo, seam in zip(photos, seams, strict=True)]
    held_out = [photo[:, seam:] for photo, seam in zip(photos, seams, strict=True)]
    return {
        "train": [sample for photo in train for sample in cut(photo, step=24)],
        "eval": [sample for photo in held_out for sample in cut(photo, step=SIZE)],
    }


def cut(photo: np.ndarray, step: int) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    from PIL import Image

    found = []
    for top in range(0, photo.shape[0] - SIZE + 1, step):
        for left in range(0, photo.shape[1] - SIZE + 1, step):
            sharp = np.ascontiguousarray(photo[top : top + SIZE, left : left + SIZE])
            half = Image.fromarray(sharp).resize((SIZE // 2, SIZE // 2), Image.Resampling.BICUBIC)
            found.append((np.asarray(half), {"image": sharp}))
    return found
