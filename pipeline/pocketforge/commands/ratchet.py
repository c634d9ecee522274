"""`gate --ratchet`: limits in a recipe tightened to what a build reached; comments and layout stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.errors import RecipeError
from pocketforge.files import replace_whole
from pocketforge.recipe import METRICS, Recipe
from pocketforge.recipe.metric import Better
from pocketforge.recipe.size_rules import with_buckets
from pocketforge.recipe.toml import parse_recipe
from pocketforge.recipe.worst_part import whole_metric
from pocketforge.records import GateResult, HowCompared
from pocketforge.results.relative import interval_of

_DIGITS = 3  # of what was timed: more of them would be noise


@dataclass(frozen=True, slots=True)
class Tightened:
    """One limit that is another now.

    Attributes:
        budget: Its place in the recipe, from 0.
        metric: What it is on.
        before: The limit that the recipe had.
        after: The one that it has now.
    """

    budget: int
    metric: str
    before: float
    after: float


def ratchet(path: Path, recipe: Recipe, gates: Sequence[GateResult]) -> list[Tightened]:
    """Tighten the recipe file's limits to the worst value that each budget's results have; a limit is never loosened.

    Of what was timed it is the end of the value's interval, so that the same file still passes the next time. Budgets
    with a baseline stay, and those that are not PASS everywhere. Raises RecipeError when the file cannot be written.
    """
    import tomlkit

    text = path.read_bytes().decode("utf-8-sig")  # line ends stay, too
    document: Any = tomlkit.parse(text)
    changed = []
    for index, table in enumerate(document.get("budget", [])):
        own = [gate for gate in gates if _is_of(gate, table, recipe)]
        limits = [_reached(gate) for gate in own]
        better = _better(own[0]) if own else None
        if better is None or any(gate.verdict != "PASS" for gate in own) or "limit" not in table:
            continue
        before, worst = float(table["limit"]), min(limits) if better == "higher" else max(limits)
        row = METRICS.if_usable(whole_metric(own[0].measurement.metric)) if own[0].measurement else None
        # A file may be better than any limit may ask for: a drop of less than 0.
        worst = max(worst, float(row.limits.low)) if row and better == "lower" else worst
        if worst > before if better == "higher" else worst < before:
            table["limit"] = int(worst) if worst.is_integer() and isinstance(table["limit"], int) else worst
            changed.append(Tightened(index, str(table["metric"]), before, worst))
    if changed:
        _write(path, tomlkit.dumps(document), recipe)
    return changed


def _write(path: Path, text: str, recipe: Recipe) -> None:
    parse_recipe(text, str(path), recipe.folder)  # what would not be read is not written
    try:
        replace_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot write the recipe {path}: {error.strerror}") from None


def _is_of(gate: GateResult, table: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a result is of a [[budget]] as the file has it; one on a target with `sizes` is of each bucket's file."""
    budget = gate.budget
    keys = ("metric", "device", "percentile", "severity", "slice", "per")
    defaults = {"device": "", "percentile": "p50", "severity": "error", "slice": "", "per": "all"}
    target = table.get("target", "")
    files = {each.name for each in with_buckets([each for each in recipe.targets if each.name == target])}
    of_target = not target or target in (gate.target, budget.target) or gate.target in files
    alike = all(table.get(key, defaults.get(key)) == getattr(budget, key) for key in keys)
    return of_target and alike and not budget.baseline and table.get("limit") == budget.limit


def _better(gate: GateResult) -> Better | None:
    how = gate.measurement.how if gate.measurement else None
    if isinstance(how, HowCompared) and how.better:
        return how.better
    row = METRICS.if_usable(whole_metric(gate.measurement.metric)) if gate.measurement else None
    return row.better if row else None


def _reached(gate: GateResult) -> float:
    """The value; of what was timed the end of its interval, rounded away from it."""
    measurement = gate.measurement
    value = gate.value if gate.value is not None else math.nan
    if measurement is None:
        return value
    interval = interval_of(measurement, gate.budget.percentile)
    if interval.low == interval.high and not measurement.samples:
        return value
    if not 0 < interval.high < math.inf:
        return math.inf
    step = 10.0 ** (math.floor(math.log10(interval.high)) + 1 - _DIGITS)
    # Beyond the end: a limit that the interval holds is not decided.
    return float(f"{(math.floor(interval.high / step + 1e-9) + 1) * step:.12g}")
