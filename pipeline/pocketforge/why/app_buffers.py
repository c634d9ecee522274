"""Mistakes with where numbers lie in memory: the order of axes, rows with padding, a fourth channel, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from pocketforge.data.base import Array
from pocketforge.why.app_chain import Chain
from pocketforge.why.app_mistakes import Changes, Mistake

_ALIGNED = (16, 32, 64, 128)  # bytes that cameras and codecs round a row to


def _axes_mixed(chain: Chain) -> Chain | None:
    """The other of the two orders, in the same memory."""
    shape = chain.taken.shape
    if len(shape) != 4 or 1 in shape[1:]:
        return None
    order = (2, 0, 1) if chain.channels_last else (1, 2, 0)
    return replace(chain, buffer=(*chain.buffer, lambda found: found.transpose(order)))


def _rows(found: Array, chain: Chain) -> Array:
    """As rows of pixels: H × (W · C) of channels last, C · H × W else."""
    shape = chain.taken.shape
    return found.reshape(shape[1], -1) if chain.channels_last else found.reshape(-1, shape[3])


def _strided(pad: Callable[[int], int]) -> Changes:
    """Rows with padding behind each, read as if there were none. pad: numbers of a row → how many more follow."""

    def change(chain: Chain) -> Chain | None:
        if len(chain.taken.shape) != 4:
            return None

        def padded(found: Array) -> Array:
            rows = _rows(found, chain)
            return np.pad(rows, ((0, 0), (0, pad(rows.shape[1])))).reshape(-1)[: found.size]

        return replace(chain, buffer=(*chain.buffer, padded))

    return change


def _aligned(number: int) -> Callable[[int], int]:
    return lambda width: -width % number


def _four_channels(first: bool) -> Changes:
    """Pixels of four numbers (RGBA, ARGB) read as pixels of three. Opaque: the fourth is white's number."""

    def change(chain: Chain) -> Chain | None:
        shape = chain.taken.shape
        if len(shape) != 4 or shape[3 if chain.channels_last else 1] != 3:
            return None
        white = np.full((1, 1, 3), chain.about.value_max or 255)

        def cut(found: Array) -> Array:
            pixels = found if chain.channels_last else found.transpose(1, 2, 0)
            alpha = np.full((*pixels.shape[:2], 1), _white(chain, white), found.dtype)
            parts = (alpha, pixels) if first else (pixels, alpha)
            return np.concatenate(parts, axis=2).reshape(-1)[: found.size]

        return replace(chain, buffer=(*chain.buffer, cut))

    return change


def _white(chain: Chain, white: Array) -> float:
    """What an opaque alpha becomes, if what is done to values is done to it."""
    from pocketforge.data.preprocess import through
    from pocketforge.recipe.image_steps import Normalize, Scale

    steps = tuple(step for step in chain.steps if isinstance(step, Scale | Normalize))
    return float(through(steps, "image", white, chain.about).max())


def _bytes_swapped(chain: Chain) -> Chain | None:
    if np.dtype(chain.taken.dtype).itemsize == 1:
        return None
    return replace(chain, buffer=(*chain.buffer, _swap))


def _swap(numbers: Array) -> Array:
    return numbers.byteswap()


def of_numbers(kind: str) -> Iterator[Mistake]:
    """Those of an input of a kind."""
    if kind == "image":
        fix = "copy pixel by pixel in the order of the file's shape (Tensor.shape() says N,H,W,C or N,C,H,W)"
        words = "channels last in memory where they come first, or first for last (NHWC and NCHW)"
        yield Mistake("axes", "order", words, fix, _axes_mixed)
        fix = "copy row by row: a row of the buffer is rowStride bytes long (Image.Plane.getRowStride)"
        for number in _ALIGNED:
            words = f"rows padded to multiples of {number}, read as if they were not"
            yield Mistake(f"rows_of_{number}", "order", words, fix, _strided(_aligned(number)))
        fix = "take three of each pixel's four bytes (pixelStride)"
        yield Mistake("rgba", "order", "RGBA pixels read as RGB ones", fix, _four_channels(first=False))
        yield Mistake("argb", "order", "ARGB pixels read as RGB ones", fix, _four_channels(first=True))
    fix = "ByteBuffer.allocateDirect(n).order(ByteOrder.nativeOrder()): Java's own order is big-endian"
    yield Mistake("byte_order", "bytes", "bytes in the other order (big-endian)", fix, _bytes_swapped, undo=_swap)
