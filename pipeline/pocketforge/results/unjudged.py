"""Files made elsewhere that a gate lets pass without having looked at what they answer: in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.recipe import Recipe
from pocketforge.recipe.budget import place_of
from pocketforge.records import TargetRecord


def unjudged_files(recipe: Recipe, targets: Sequence[TargetRecord]) -> Iterator[str]:
    """Files that are held against nothing, and whose outputs no budget is on: any file that runs would pass."""
    for record in targets:
        made = record.facts.elsewhere
        budgets = [b for b in recipe.budgets if b.target in ("", record.name) and b.severity == "error"]
        if made and not made.against and not any(place_of(budget.metric) == "outputs" for budget in budgets):
            yield (
                f"{record.name}: no budget is on what {made.file} answers, and it is held against nothing: that it "
                "passes says that it runs; add one (accuracy_top1, metric …), or a reference"
            )
