"""Prepared samples at other sizes: what files are compared with PyTorch on, where sizes of inputs vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.metrics import Array


def resized(samples: Array, shape: Sequence[int]) -> Array:
    """Samples stretched to another shape, axis by axis: real numbers by the two nearest, others by the nearest.

    samples: first axis samples. shape: of one sample, with as many axes as one has.
    """
    found = np.asarray(samples)
    for axis, length in enumerate(shape, start=1):
        old = found.shape[axis]
        if old == length:
            continue
        places = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        if found.dtype.kind != "f":
            found = np.take(found, np.rint(places).astype(int), axis)
            continue
        low = np.floor(places).astype(int)
        share = (places - low).astype(found.dtype).reshape([-1 if a == axis else 1 for a in range(found.ndim)])
        high = np.take(found, np.minimum(low + 1, old - 1), axis)
        found = np.take(found, low, axis) * (1 - share) + high * share
    return np.ascontiguousarray(found)
