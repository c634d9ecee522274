"""Metrics of a file that are a function of its own: no stage takes them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name

from pocketforge.errors import PluginFailed
from pocketforge.recipe import METRICS, Recipe
from pocketforge.results.plugin_words import HINT

_SHOWN_LETTERS = 80


def asked_of_files(recipe: Recipe) -> list[str]:
    """Metrics that say by what function they are taken and that a budget names. What else is installed is not asked:
    a report depends on its recipe."""
    named = dict.fromkeys(budget.metric for budget in recipe.budgets)
    return [name for name in named if METRICS.names(name) and METRICS[name].taken_by]


def file_values(path: Path, metrics: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Each of these metrics, and its value for this file. Raises PluginFailed for what is no finite number."""
    for name in metrics:
        place, plugin = METRICS[name].taken_by, METRICS.brought_by(name)
        with METRICS.calling(name, place):
            take: Callable[[Path], object] = resolve_name(place)
            value = take(path)
        what = f"{plugin.words if plugin else f'metric {name}'}: what {place} gives for {path.name}"
        yield name, finite(value, what, plugin.hint if plugin else HINT)


def finite(value: object, what: str, hint: str) -> float:
    """A value that a package gave, as a number. what: it is, in words, with whose.

    Raises PluginFailed for anything else (text of digits, an array of one number, None, what has no size): a budget
    would be judged by a guess.
    """
    if type(value) is float and math.isfinite(value):  # as each of thousands of samples is
        return value
    number: float | None = None
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except (OverflowError, ValueError):
            number = math.inf
    if number is None or not math.isfinite(number):
        plain = isinstance(value, str | int | float | complex | None)
        shown = repr(value)[:_SHOWN_LETTERS] if plain else f"a {type(value).__name__}"
        raise PluginFailed(f"{what} must be a finite number, found {shown}", hint)
    return number
