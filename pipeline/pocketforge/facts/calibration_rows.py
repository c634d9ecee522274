"""Whether a classifier's score calibration has a row for each class, as far as that is known before anything runs."""

from __future__ import annotations

from pocketforge.errors import RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.output import labelled
from pocketforge.recipe.package_rules import calibrated_output


def check_calibration_rows(recipe: Recipe) -> None:
    """By data.labels, a class a line; where the source alone knows its classes, export says it. Two names may be those
    of one score. Raises RecipeError, and ModelError for names that cannot be read."""
    judged = tuple(recipe.judged)
    names = labelled(judged)
    if names is None or not recipe.data.labels:
        return
    asked = {
        number: len(target.package.calibration.curve)
        for number, target in enumerate(recipe.targets)
        if target.package.calibration is not None and calibrated_output(target.package, judged) is names
    }
    if not any(rows > 1 for rows in asked.values()):
        return
    from pocketforge.data.labels import read_labels

    classes = len(read_labels(recipe.resolve(recipe.data.labels)))
    faults = [
        f"target[{number}].package.calibration.curve: wanted a row a class ({classes}, by data.labels), or one for "
        f"all, found {rows} rows"
        for number, rows in asked.items()
        if rows not in (1, classes)
    ]
    if faults:
        raise RecipeError("a score calibration does not fit the classes:", faults=faults)
