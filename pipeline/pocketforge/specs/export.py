"""What `export` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.output import Output
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class AboutSpec:
    """What a file says of itself.

    Attributes:
        name: The target's.
        judged: As `VerifySpec.judged`.
        calibration: Of the scores of a classifier; None for none.
        tasks: Whether MediaPipe Tasks are to read it: a tokenizer that metadata cannot hold is an error then.
    """

    name: str
    judged: tuple[Output, ...]
    calibration: ScoreCalibration | None = None
    tasks: bool = False


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
        about: What the file says of itself; None of a file that says nothing.
        int8_weights: Whether an ONNX file's weights are int8, not uint8.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"int8_weights"})

    runtime: str
    scheme: str
    layout: str
    model_layout: str
    io: str
    opset: int | None
    about: AboutSpec | None = None
    int8_weights: bool = False
