"""What stage `annotate` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.quantize import Quantize
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class AnnotateSpec(Spec):
    """Stage `annotate`.

    Attributes:
        quantize: A target's, as `Quantize.settled` has it; one that computes in integers.
    """

    quantize: Quantize
