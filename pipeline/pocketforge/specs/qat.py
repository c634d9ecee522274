"""What stage `qat` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.quantize import Quantize
from pocketforge.specs.base import Spec
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class QatSpec(Spec):
    """Stage `qat`.

    Attributes:
        model: What is trained.
        sampling: What it is trained on.
        quantize: Of scheme qat_int8, as `Quantize.settled` has it.
        trained_on: The GPUs in words (`recipe.training.gpus_in_words`); empty: the CPU.
    """

    model: ModelSource
    sampling: Sampling
    quantize: Quantize
    trained_on: str = ""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"trained_on"})
