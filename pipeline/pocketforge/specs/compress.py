"""What all stages of the trunk that change a model are told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.model import InputSpec
from pocketforge.specs.base import Spec
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class CompressSpec(Spec):
    """The model to change, and the samples to change it by.

    Attributes:
        model: Where the model comes from, where no checkpoint is an input.
        model_inputs: The recipe's `[[model.input]]`; () where it names none.
        sampling: Samples to calibrate with, to train on and to judge by.
    """

    model: ModelSource
    model_inputs: tuple[InputSpec, ...]
    sampling: Sampling
