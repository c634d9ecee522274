"""What tap_onnx and tap_tflite give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileTap:
    """A layer's output that was made an output of a file, to look at it.

    name: of the op in the file; kind: conv or linear; output: its position among the outputs; weight: shape of the
    layer's weight, as the file holds it; scale/zero_point: where the value is int8 and the session does not say so.
    """

    name: str
    kind: str
    output: int
    weight: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    is_nhwc: bool
