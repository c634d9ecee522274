"""What `export` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class ExportSpec(Spec):
    """Stage `export`.

    Attributes:
        runtime: Whose files are written.
        scheme: Of the target.
        layout: Of image inputs as the file shall take them, NCHW or NHWC.
        model_layout: Of image inputs as the PyTorch model takes them.
        io: float32, or int8 where the file takes and gives levels.
        opset: Of ONNX files; None is the exporter's choice, and of other runtimes.
    """

    runtime: str
    scheme: str
    layout: str
    model_layout: str
    io: str
    opset: int | None
