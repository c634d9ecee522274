"""Steps of a sidecar's preprocessing that generated code does itself, to the bit, and where they begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Words = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReverseChannels:
    """RGB to BGR: the last axis backwards."""


@dataclass(frozen=True, slots=True)
class Divide:
    """In float32.

    Attributes:
        by: The value that becomes 1.0.
    """

    by: float


@dataclass(frozen=True, slots=True)
class Normalize:
    """(value - mean) / std in float32, along the last axis.

    Attributes:
        mean: One value, or one for each place of the last axis.
        std: As long as `mean`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ToFloat:
    """float32, of bytes too."""


@dataclass(frozen=True, slots=True)
class Transpose:
    """Axes in another order.

    Attributes:
        axes: Of the result, each by its place before: (2, 0, 1) makes CHW of HWC.
    """

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quantize:
    """round half to even(value / scale) + zero_point, limited to the type; in float32.

    Attributes:
        scale: The real value of one level.
        zero_point: The level of a real 0.
        dtype: int8 or uint8.
    """

    scale: float
    zero_point: int
    dtype: str


Step = ReverseChannels | Divide | Normalize | ToFloat | Transpose | Quantize
# Layouts of sound whose values lie in memory as before: an axis of one is added, and no two change places.
_SAME_ORDER = ("NT", "NCT", "NTF", "NCTF")


def _transpose(words: Words) -> Step:
    before = str(words["from"])
    return Transpose(tuple(before.index(axis) for axis in str(words["to"])))


_MADE: dict[str, Callable[[Words], Step]] = {
    "reverse_channels": lambda words: ReverseChannels(),
    "divide": lambda words: Divide(float(words["by"])),
    "normalize": lambda words: Normalize(tuple(map(float, words["mean"])), tuple(map(float, words["std"]))),
    "cast": lambda words: ToFloat(),
    "transpose": _transpose,
    "quantize": lambda words: Quantize(float(words["scale"]), int(words["zero_point"]), str(words["dtype"])),
}


def split(steps: Sequence[Words]) -> tuple[tuple[Words, ...], tuple[Step, ...]]:
    """What is left to the app, in the sidecar's words, and what generated code does after it.

    Left are the steps up to the last one that another library's arithmetic defines: decoding, resizing, resampling,
    spectra, tokens.
    """
    ours = len(steps)
    while ours and _is_ours(steps[ours - 1]):
        ours -= 1
    return tuple(steps[:ours]), tuple(_MADE[str(step["step"])](step) for step in steps[ours:] if _does(step))


def changes_values(step: Words) -> bool:
    """Whether it does more than to move pixels: none that is left to the app may, where it gives pictures."""
    return step["step"] in _MADE


def _is_ours(step: Words) -> bool:
    if step["step"] == "layout":
        return step["to"] in _SAME_ORDER
    return step["step"] in _MADE and (step["step"] != "cast" or step["dtype"] == "float32")


def _does(step: Words) -> bool:
    return bool(step["step"] != "layout")


def shape_before(steps: Sequence[Step], shape: Sequence[int]) -> tuple[int, ...]:
    """Of what the steps begin with. shape: of what they end with, without a batch axis."""
    found = tuple(shape)
    for step in reversed(steps):
        if isinstance(step, Transpose):
            found = tuple(found[step.axes.index(axis)] for axis in range(len(step.axes)))
    return found
