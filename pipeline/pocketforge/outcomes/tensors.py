"""What a file takes and gives, as its exporter promises it and as its runtime sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a file: what an app must feed or will get.

    Integers and booleans without a scale (an argmax, a mask) stand for themselves.

    Attributes:
        name: By which an app feeds or finds it.
        shape: With the batch of 1 first; -1 where a runtime leaves a dimension open.
        dtype: NumPy's name of it.
        layout: NCHW or NHWC of images; empty where nobody says it.
        scale: Of int8 inputs and outputs: the real value of one level. None where values are real already.
        zero_point: The level of a real 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""
    scale: float | None = None
    zero_point: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


def as_told(tensor: Mapping[str, Any]) -> TensorSpec:
    """One input or output in a runner's words, which leave out what there is not."""
    return TensorSpec(
        name=str(tensor["name"]),
        shape=tuple(length if isinstance(length, int) else -1 for length in tensor["shape"]),
        dtype=str(tensor["dtype"]),
        scale=tensor.get("scale"),
        zero_point=tensor.get("zero_point"),
    )
