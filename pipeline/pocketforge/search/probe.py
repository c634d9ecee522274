"""Budgets that no point of a space keeps, found before anything is trained: its smallest models are built untrained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from pocketforge.errors import RecipeError
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.search.constraints import UNMEASURED
from pocketforge.search.dimension import Choice, Dimension, Value
from pocketforge.search.evaluate import Evaluator
from pocketforge.search.space import RATIO
from pocketforge.search.trial_recipe import Base, trial_recipe

# What makes a file another kind of file: each combination has a smallest model of its own.
_KINDS = ("target", "runtime", "scheme")


def check_budgets(
    base: Base,
    dimensions: Sequence[Dimension],
    fixed: Mapping[str, Value],
    known_early: Sequence[str],
    evaluator: Evaluator,
) -> None:
    """Raises RecipeError with each budget that the smallest model of no kind of file keeps, and by how much.

    Stops at once when all are kept. Where a smallest model cannot be built, nothing is claimed.
    """
    left: dict[str, float] = dict.fromkeys(known_early, UNMEASURED)
    for choice in smallest(dimensions, fixed):
        if not left:
            return
        try:
            made = trial_recipe(base, choice, None)
        except RecipeError:  # a scheme that this runtime has not
            continue
        (found,) = evaluator.measure([made], "untrained")
        if found.reason:
            return
        left = {
            name: min(over, found.violations.get(name, 0.0))
            for name, over in left.items()
            if found.violations.get(name, 0.0) > 0
        }
    if left and all(over < UNMEASURED for over in left.values()):
        raise RecipeError(
            "no point of the space keeps these budgets, however little it leaves of the model:",
            "raise the limit, or give [fit.space] more to choose from (ratios, drop_blocks, schemes)",
            [f"{name}: the smallest model is {over:.1%} over the limit" for name, over in left.items()],
        )


def smallest(dimensions: Sequence[Dimension], fixed: Mapping[str, Value]) -> Iterator[Choice]:
    """Of each kind of file the choice that leaves least, those with the fewest bits a weight first."""
    least: dict[str, Value] = dict(fixed)
    for each in dimensions:
        if each.name.startswith(RATIO) or each.name in ("drop_blocks", "sparsity"):
            least[each.name] = each.values[-1]
        elif each.name == "resize":
            least[each.name] = min(each.values, key=lambda size: [int(side) for side in str(size).split("x")])
        elif each.name not in _KINDS:
            least[each.name] = each.values[0]
    kinds = [each for each in dimensions if each.name in _KINDS]
    combined = [
        dict(zip((each.name for each in kinds), values, strict=True))
        for values in itertools.product(*(each.values for each in kinds))
    ]
    for kind in sorted(combined, key=lambda each: SCHEMES[str(each["scheme"])].bits if "scheme" in each else 0):
        yield {**least, **kind}
