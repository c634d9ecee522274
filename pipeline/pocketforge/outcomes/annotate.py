"""annotate.json: what a quantizer will make of a model, before anything is calibrated (stage `annotate`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.outcomes.quantize import Concat

Numbers = Literal["int8", "dynamic_int8", "between", "through", "behind", "float"]


@dataclass(frozen=True, slots=True)
class AnnotatedPart:
    """A layer, or an operation between layers.

    Attributes:
        name: As an override names it: of a layer its module's, of an operation kind@module.
        kind: ATen's word: `conv2d`, `cat`.
        numbers: int8: its inputs and its output are levels. dynamic_int8: a layer whose input's range is found at each
            inference. between: the quantizer knows no levels of it, but all it reads and all that reads it has levels,
            so that a runtime with such a kernel computes it in int8, others in float. through: what reads it has levels
            only behind operations that pass values on, which a runtime may compute in these levels too. behind: all it
            reads has levels, and not all that reads it; a runtime that keeps these levels for such an operation
            computes it in int8. float: else.
        weights: How many it has; 0 for an operation.
        operation: Whether it is named by `ops` of an override, not by `modules`.
        form: What of the operation decides about kernels, in words; empty for most.
        made_by: Of one that passes on what has no levels: the operation that made it. Empty for others.
    """

    name: str
    kind: str
    numbers: Numbers
    weights: int
    operation: bool
    form: str = ""
    made_by: str = ""

    def is_of(self, kinds: Collection[str]) -> bool:
        """Whether it is one of these: `cat`, or `adaptive_avg_pool2d to 1`."""
        return self.kind in kinds or f"{self.kind} {self.form}" in kinds


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
