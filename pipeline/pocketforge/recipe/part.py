"""A part of a recipe: some of its targets, and what is asked of those."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from pocketforge.errors import RecipeError
from pocketforge.recipe.names import suggest
from pocketforge.recipe.recipe import Recipe


def with_targets(recipe: Recipe, names: Collection[str]) -> Recipe:
    """The recipe as if it had these targets alone; all of it where none are named.

    Budgets and waivers of the others go with them. Raises RecipeError for a name that it has not.
    """
    if not names:
        return recipe
    known = [target.name for target in recipe.targets]
    for name in names:
        if name not in known:
            raise RecipeError(f"no target is named {name!r}{suggest(name, known)}")
    targets = tuple(target for target in recipe.targets if target.name in names)
    budgets = tuple(budget for budget in recipe.budgets if not budget.target or budget.target in names)
    waivers = tuple(
        waiver
        for waiver in recipe.waivers
        if (not waiver.target or waiver.target in names) and any(map(waiver.is_of, budgets))
    )
    return dataclasses.replace(recipe, targets=targets, budgets=budgets, waivers=waivers)


def left_out(recipe: Recipe, part: Recipe) -> Sequence[str]:
    """What a build of the part does not say of the recipe, in words; nothing where the part is all of it."""
    gone = [target.name for target in recipe.targets if target not in part.targets]
    if not gone:
        return ()
    budgets = len(recipe.budgets) - len(part.budgets)
    of = f", nor judged by the budgets of theirs ({budgets})" if budgets else ""
    return (f"some of the recipe's targets are not asked for, and are not built{of}: {', '.join(gone)}",)
