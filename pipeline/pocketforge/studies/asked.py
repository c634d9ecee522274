"""A recipe as a study runs it: with another target or another [[compress]] than its file has."""

from __future__ import annotations

import dataclasses

from pocketforge.errors import RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.faults import WrongTable


def as_asked(recipe: Recipe, study: str, **changes: object) -> Recipe:
    """The recipe with these fields. Raises RecipeError where it then breaks a rule: the user's file breaks none."""
    try:
        return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]
    except WrongTable as error:
        faults = [fault.message for fault in error.faults]
        raise RecipeError(f"study {study} cannot be made of recipe {recipe.name!r}:", faults=faults) from None


def check_single_steps(recipe: Recipe, study: str) -> None:
    """Raises RecipeError for a model with states."""
    if recipe.model.states:
        raise RecipeError(f"study {study} sees single steps, and a model with states is one of sequences")
