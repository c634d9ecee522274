"""What of the app's side a target's file does itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import check_name
from pocketforge.recipe.score_calibration import ScoreCalibration

Postprocess = Literal["none", "softmax", "sigmoid", "argmax", "masks", "top_k", "nms"]
# What no file does, and why.
_NOT_BUILT = {
    "top_k": "which of equal scores are among the first k is not said anywhere (torch.topk), and int8 scores are often "
    "equal: use softmax, and sort in the app",
    "nms": "boxes that are left are of another number each time, and a file's outputs have fixed shapes: do it in the "
    "app, by the numbers of the sidecar's output_roles",
}


@dataclass(frozen=True, slots=True)
class Package:
    """What a file does that else the app does.

    Attributes:
        preprocess: "inside": the file takes pixels as they are decoded, at the model's size (or 16-bit PCM), and does
            the rest of [data.preprocess] itself.
        postprocess: What is done to an output before the file gives it. "masks" are shares of classes with the classes
            last, [1, H, W, classes], as MediaPipe's ImageSegmenter reads them.
        output: Name of that output; empty for the first that it can be done to.
        metadata: Whether the file says what it takes and gives, with labels and preprocessing, in its format's own
            place: TFLite Metadata, ONNX's metadata_props, a constant method of ExecuTorch.
        calibration: What readers of TFLite Metadata make of a classifier's scores; None for nothing.
    """

    preprocess: Literal["outside", "inside"] = "outside"
    postprocess: Postprocess = "none"
    output: str = ""
    metadata: bool = False
    calibration: ScoreCalibration | None = None

    def __post_init__(self) -> None:
        if self.postprocess in _NOT_BUILT:
            raise WrongTable(Fault(_NOT_BUILT[self.postprocess], "postprocess"))
        if self.output:
            check_name(self.output, "output")
        if self.output and self.postprocess == "none":
            raise WrongTable(Fault("names whose postprocess is meant, and there is none", "output"))

    @property
    def inside(self) -> bool:
        """Whether preprocessing goes in."""
        return self.preprocess == "inside"

    @property
    def packs(self) -> bool:
        """Whether the file does anything of the app's."""
        return self.inside or self.postprocess != "none"
