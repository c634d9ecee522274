"""package.json: what a target's file does of the app's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class PackedInput:
    """One input of the file.

    Attributes:
        name: Of the input.
        dtype: NumPy's name of what an app feeds: uint8 pixels, int16 PCM, float32 where samples are floats.
        shape: With the batch of 1 first.
        layout: NCHW or NHWC of images; empty of others.
        steps: What the file does to it, in order: `step` is a step's name, the rest are its numbers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    steps: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """What stage `package` put around the model.

    Attributes:
        inputs: What the file takes and does to it; empty where preprocessing is left to the app.
        postprocess: What it does to an output: softmax, sigmoid, argmax, or none.
        output: Name of that output; empty for none.
    """

    FILE: ClassVar[str] = "package.json"

    inputs: tuple[PackedInput, ...]
    postprocess: str
    output: str


def in_words(package: Packed) -> str:
    """What a file takes and gives where it does something of the app's side."""
    taken = [
        " ".join(filter(None, (each.name, each.dtype, str(list(each.shape)), each.layout)))
        + f" and does {', '.join(str(step['step']) for step in each.steps) or 'nothing'}"
        for each in package.inputs
    ]
    given = [f"gives {package.output} after {package.postprocess}"] if package.output else []
    return "; ".join([*(f"takes {words}" for words in taken), *given])
