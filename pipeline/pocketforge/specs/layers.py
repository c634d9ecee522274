"""What stage `layers` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.quantize import Quantize
from pocketforge.specs.base import Spec
from pocketforge.specs.sampling import Sampling


@dataclass(frozen=True, slots=True)
class LayersSpec(Spec):
    """Stage `layers`.

    Attributes:
        quantize: A static one, as `Quantize.settled` has it, without what is chosen from the study.
        sampling: The samples that the model is judged by.
    """

    quantize: Quantize
    sampling: Sampling
