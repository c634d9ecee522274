"""What stage `quantize` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.quantize import Quantize
from pocketforge.specs.base import Spec
from pocketforge.specs.sampling import Sampling


@dataclass(frozen=True, slots=True)
class QuantizeSpec(Spec):
    """Stage `quantize`.

    Attributes:
        quantize: A target's, as `Quantize.settled` has it.
        sampling: Where samples are trained on or judged by (mixed; a codebook with finetune); else None, so that their
            split is in no key.
    """

    quantize: Quantize
    sampling: Sampling | None = None
