"""Which constants of a converted file are which encoded weights, and how their levels lie there.

Converters rename, transpose and flatten weights, each in its own way. So a weight is recognised by its values: a
constant is replaced only if it holds, in some order of the axes, exactly the numbers that its encoding stands for.
What the file computes then cannot change.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketforge.metrics import Array
from pocketforge.quantization.encodings import Encoding, grouped_order


@dataclass(frozen=True, slots=True)
class Placed:
    """An encoded weight as a constant of the file.

    Attributes:
        name: The weight's, in PyTorch.
        encoding: Its levels and scales.
        shape: The constant's.
        order: The weight's axes (those of size 1 left out) as they lie in the constant.
    """

    name: str
    encoding: Encoding
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def axis(self) -> int | None:
        """Of the constant's axes the one of the output channels; None where the whole weight has one scale."""
        if self.encoding.scales.size == 1:
            return None
        place = self.order.index(self.encoding.axis)
        return [position for position, size in enumerate(self.shape) if size > 1][place]

    @property
    def levels(self) -> NDArray[np.int8]:
        """Levels as the constant lies: of its shape and order."""
        return np.ascontiguousarray(_ordered(self.encoding.levels, self.order).reshape(self.shape))

    @property
    def rows_order(self) -> tuple[int, ...]:
        """The weight's axes in the order of `Encoding.rows`, those of size 1 left out."""
        axes = np.arange(self.encoding.levels.ndim)
        # grouped_order moves axes: on an array whose sizes are the axes' own numbers, it shows where each goes.
        moved = grouped_order(np.empty(tuple(axes + 2), np.bool_), self.encoding.axis).shape
        return tuple(size - 2 for size in moved if self.encoding.levels.shape[size - 2] > 1)

    @property
    def rows_shape(self) -> tuple[int, ...]:
        """Sizes of `rows_order`."""
        return tuple(self.encoding.levels.shape[axis] for axis in self.rows_order)

    @property
    def rows_permutation(self) -> tuple[int, ...]:
        """How rows, reshaped to `rows_shape`, are transposed to the constant's order (then reshaped to `shape`)."""
        return tuple(self.rows_order.index(axis) for axis in self.order)


class Matcher:
    """Recognises the constants of a file. `missing` afterwards: the names of weights that none was."""

    def __init__(self, encodings: Mapping[str, Encoding]) -> None:
        self._by_content: dict[tuple[int, int], list[tuple[str, Encoding, NDArray[np.float32]]]] = {}
        self._left = dict.fromkeys(encodings)
        for name, encoding in encodings.items():
            values = encoding.values()
            self._by_content.setdefault(_fingerprint(values), []).append((name, encoding, values))

    @property
    def missing(self) -> list[str]:
        return list(self._left)

    def find(self, constant: Array) -> Placed | None:
        """The weight whose values `constant` (float32) holds; None when it is none of them."""
        if constant.dtype != np.float32 or not constant.size:
            return None
        placed = None
        # Weights with the same values all count as found: converters keep one copy of equal constants.
        for name, encoding, values in self._by_content.get(_fingerprint(constant), []):
            order = _order_of(values, constant)
            if order is not None:
                self._left.pop(name, None)
                placed = placed or Placed(name, encoding, tuple(int(n) for n in constant.shape), order)
        return placed


def in_half(constant: Array) -> NDArray[np.float16] | None:
    """A weight in half precision; None for what is no float32 weight (of two axes or more) or does not fit it."""
    if constant.dtype != np.float32 or constant.ndim < 2 or constant.size < 2:
        return None
    with np.errstate(over="ignore"):
        half = constant.astype(np.float16)
    return half if np.isfinite(half).all() else None


def unmatched_warning(name: str) -> str:
    """For a weight that `Matcher` misses."""
    return f"{name} stays float32 in the file: the converter changed its values (folded something into it)"


def _fingerprint(values: Array) -> tuple[int, int]:
    """Equal for the same numbers in any order: their count and the sum of their bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return values.size, int(bits.sum(dtype=np.uint64))


def _order_of(values: NDArray[np.float32], constant: Array) -> tuple[int, ...] | None:
    """The order of `values`' axes (but for those of size 1) that makes them `constant`."""
    axes = [axis for axis, size in enumerate(values.shape) if size > 1]
    sizes = [size for size in constant.shape if size > 1]
    for order in itertools.permutations(axes):
        if [values.shape[axis] for axis in order] != sizes:
            continue
        if np.array_equal(_ordered(values, order), constant.squeeze()):
            return order
    return None


def _ordered(array: Array, order: tuple[int, ...]) -> Array:
    axes = sorted(order)
    return array.squeeze().transpose([axes.index(axis) for axis in order])
