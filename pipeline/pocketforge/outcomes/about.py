"""What a model file says of itself, in its format's own place for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pocketforge.outcomes.data import Preprocessing, PreprocessingOfInputs
from pocketforge.outcomes.for_file import make_preprocessing
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.score_calibration import ScoreCalibration

_HIGHEST_BYTE = 255.0
DetectionOutput = Literal["", "location", "category", "score", "number of detections"]


_DETECTION: Mapping[str, DetectionOutput] = {
    "boxes": "location",
    "classes": "category",
    "scores": "score",
    "count": "number of detections",
}


def detection_outputs(
    roles: Mapping[str, str], shapes: Mapping[str, tuple[int | str, ...]]
) -> dict[str, DetectionOutput]:
    """Name → what a detector's four outputs are. Empty where these are not its only ones, or its count is no [1].

    roles: of outputs by their names. shapes: of all, with the batch.
    """
    parts = {name: _DETECTION[roles[name]] for name in shapes if roles.get(name) in _DETECTION}
    counts = [shapes[name] for name, part in parts.items() if part == "number of detections"]
    whole = len(shapes) == len(parts) == len(set(parts.values())) == len(_DETECTION)
    return parts if whole and counts == [(1,)] else {}


@dataclass(frozen=True, slots=True)
class AboutInput:
    """One input, as consumers of files ask for it.

    Attributes:
        name: Of the input.
        channels: Of an image, or of a waveform; 0 of what is neither.
        rate_hz: Of a waveform; 0 of what is none, or where nothing says it.
        mean: What a consumer subtracts from pixels as they are decoded, before it feeds floats: one value, or one a
            channel; empty where nothing is to be done to them.
        std: What it divides by after that.
        low: The least value that is fed, where it is known: of each channel, or one.
        high: The largest.
        color: Of an image: rgb or gray; empty where channels are others, or in another order.
        token: Of a text: what it is of each token; empty where the words below are not given.
    """

    name: str
    channels: int = 0
    rate_hz: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    color: Literal["", "rgb", "gray"] = ""
    token: Literal["", "ids", "mask", "type_ids"] = ""


@dataclass(frozen=True, slots=True)
class AboutOutput:
    """One output.

    Attributes:
        name: Of the output.
        role: What it is (recipe/roles.py); empty where the recipe does not say it.
        labels: Names of its classes, in their order; empty of others.
        labelled: Whether these are of the places along an axis, or of the values themselves; empty where of neither,
            as of a detector's boxes.
        detection: Which of the four outputs of a detector it is, in MediaPipe's words; empty of others.
        shares: Whether its values are of 0 to 1.
        calibration: What readers of TFLite Metadata make of its scores, with a curve for each class; None for nothing.
    """

    name: str
    role: str = ""
    labels: tuple[str, ...] = ()
    shares: bool = False
    labelled: Literal["", "axis", "values"] = ""
    calibration: ScoreCalibration | None = None
    detection: DetectionOutput = ""


@dataclass(frozen=True, slots=True)
class About:
    """A file.

    Attributes:
        name: The target's.
        inputs: In the file's order.
        outputs: In the file's order.
        preprocessing: What an app does to a raw sample.
        package: What the file does itself, as sidecars have it; empty for nothing.
        words: Of a BERT tokenizer that makes the inputs of a text, in the order of their ids; empty of others.
    """

    name: str
    inputs: tuple[AboutInput, ...]
    outputs: tuple[AboutOutput, ...]
    preprocessing: Preprocessing | PreprocessingOfInputs
    package: Mapping[str, object]
    words: tuple[str, ...] = ()

    def of_levels(self, names: Collection[str], dtype: str) -> About:
        """The same of a file that takes levels of dtype where these inputs are. Of bytes a consumer knows the range; a
        mean and a deviation stay what levels are made by."""
        of_bytes = ((0.0,), (_HIGHEST_BYTE,)) if dtype == "uint8" else ((), ())
        changed = [
            replace(each, low=of_bytes[0], high=of_bytes[1]) if each.name in names and each.high else each
            for each in self.inputs
        ]
        return replace(self, inputs=tuple(changed))

    def to_json(self, inputs: Sequence[TensorSpec]) -> dict[str, object]:
        """What formats without a form of their own hold: plain words. inputs: as the file takes them."""
        return {
            "name": self.name,
            "labels": {each.name: list(each.labels) for each in self.outputs if each.labels},
            "roles": {each.name: each.role for each in self.outputs if each.role},
            "preprocessing": make_preprocessing(self.preprocessing, inputs),
            **({"package": dict(self.package)} if self.package else {}),
        }
