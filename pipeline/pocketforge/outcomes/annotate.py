"""annotate.json: what a quantizer will make of a model, before anything is calibrated (stage `annotate`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.outcomes.quantize import Concat

Numbers = Literal["int8", "dynamic_int8", "between", "float"]


@dataclass(frozen=True, slots=True)
class AnnotatedPart:
    """A layer, or an operation between layers.

    Attributes:
        name: As an override names it: of a layer its module's, of an operation kind@module.
        kind: ATen's word: `conv2d`, `cat`.
        numbers: int8: its inputs and its output are levels. dynamic_int8: a layer whose input's range is found at each
            inference. between: the quantizer knows no levels of it, but all it reads and all that reads it has levels,
            so that a runtime with such a kernel computes it in int8, others in float. float: else.
        weights: How many it has; 0 for an operation.
        operation: Whether it is named by `ops` of an override, not by `modules`.
    """

    name: str
    kind: str
    numbers: Numbers
    weights: int
    operation: bool


@dataclass(frozen=True, slots=True)
class Annotated:
    """What a quantizer will make of a model.

    Attributes:
        parts: Layers and operations, in the graph's order.
        concats: With a part that one scale for all would harm, by the first calibration samples.
        refused: Why a build refuses the model with this scheme, in words; empty where it does not.
        hint: What to do then, or what is likely to fail; may be empty.
    """

    FILE: ClassVar[str] = "annotate.json"

    parts: tuple[AnnotatedPart, ...]
    concats: tuple[Concat, ...] = ()
    refused: str = ""
    hint: str = ""
