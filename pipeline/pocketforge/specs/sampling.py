"""What stages are told of the real samples that they train or judge by."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.output import Output
from pocketforge.specs.base import Spec
from pocketforge.specs.data import DataSpec


@dataclass(frozen=True, slots=True)
class Sampling(Spec):
    """A recipe's data, and what they are for.

    Attributes:
        data: What stage `data` is told, from which `data.dataset.open_dataset` opens the samples.
        seed: Of what is drawn at random: the order of samples, a layer's dropout.
        task: "classification", "regression" or "outputs".
        outputs: Of task "outputs" what each output is, with the loss it is trained by; () of others.
        output_names: Of task "outputs" what the recipe calls the model's outputs; () where it does not.
    """

    data: DataSpec
    seed: int
    task: str
    outputs: tuple[Output, ...] = ()
    output_names: tuple[str, ...] = ()
