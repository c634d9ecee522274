"""The model that a stage opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.recipe import Recipe
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class ModelSpec(Spec):
    """The recipe's model, before any [[compress]].

    No path of its weights: stages get that as input `weights`, and what is in it goes into keys on its own.

    Attributes:
        definition: As `Model.definition`.
        args: Of the definition's build().
        seed: Of the random numbers that build() draws.
        weights_key: Which of several weights in the weights file; empty where there is one.
        inputs: The recipe's `[[model.input]]`, batch dimension included; () where it names none.
    """

    definition: str
    args: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    weights_key: str = ""
    inputs: tuple[InputSpec, ...] = ()


def model_spec(recipe: Recipe) -> ModelSpec:
    """What opening the recipe's model depends on."""
    model = recipe.model
    return ModelSpec(model.definition, model.args, recipe.seed, model.weights_key, model.inputs)
