"""What `reference` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.model import InputSpec
from pocketforge.specs.base import Spec
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class ReferenceSpec(Spec):
    """Stage `reference`.

    Attributes:
        model: Where the model comes from.
        inputs: What it takes, in the recipe's words; empty where its definition or the samples say it.
        outputs: Names of what it gives; empty for `output`, `output_0` and so on.
        task: classification or regression.
        metric: The task's metric that progress tells of.
    """

    model: ModelSource
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    task: str
    metric: str
