"""What `reference` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.output import Output
from pocketforge.specs.base import Spec
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class ReferenceSpec(Spec):
    """Stage `reference`.

    Attributes:
        model: Where the model comes from.
        inputs: What it takes, in the recipe's words; empty where its definition or the samples say it.
        outputs: Names of what it gives; empty for `output`, `output_0` and so on.
        task: classification, regression or outputs.
        metric: The task's metric that progress tells of.
        judged: Outputs that have a role, in the recipe's words; those of a task have no name.
        dropped: Names of outputs that files shall not have.
    """

    model: ModelSource
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    task: str
    metric: str
    judged: tuple[Output, ...] = ()
    dropped: tuple[str, ...] = ()
