"""Crops of two photographs that come with scikit-learn: real pixels for sizes and speeds, no ImageNet labels."""

import numpy as np


def photos(crops: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """(crops, 3, 224, 224) float32, normalised as torchvision's weights want it, and which photograph each is of."""
    from sklearn.datasets import load_sample_image

    images = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]  # 427 × 640 × 3
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    places = np.random.RandomState(0)
    samples, labels = [], []
    for number in range(crops):
        image = images[number % 2]
        top, left = places.randint(0, image.shape[0] - 224), places.randint(0, image.shape[1] - 224)
        crop = image[top : top + 224, left : left + 224].astype(np.float32) / 255
        samples.append(((crop - mean) / std).transpose(2, 0, 1))
        labels.append(number % 2)
    return np.stack(samples), np.array(labels)
