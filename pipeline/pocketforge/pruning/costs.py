"""What a model costs: parameters, MACs, and a goal's own metric of a candidate."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.load import count_macs, count_parameters
from pocketforge.recipe.compress import Goal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pocketforge.pruning.base import Measure, Subject


def cost(module: nn.Module, metric: str, example: tuple[Tensor, ...], measure: Measure | None = None) -> float:
    """A candidate's `macs` or `parameters`, or what `measure` finds of it. Raises ModelError without it."""
    if metric == "macs":
        return float(count_macs(module, example))
    if metric == "parameters":
        return float(count_parameters(module))
    if measure is None:
        raise ModelError(f"a goal on {metric} cannot be measured here", "use macs or parameters")
    return measure(module)


def goal_limit(goal: Goal, now: float, step: int = 1, steps: int = 1) -> float:
    """The most that may be left of the goal's metric after part `step` of `steps`, when there is `now` of it now.

    With several steps each takes the same amount. A share `removed` is of what the model had before this entry.
    """
    left = steps - step + 1
    if goal.limit is not None:
        final = goal.limit
    else:
        assert goal.removed is not None
        # Before this part, (step - 1) / steps of the share is gone already.
        whole = now / (1 - goal.removed * (step - 1) / steps)
        final = whole * (1 - goal.removed)
    return now - (now - final) / left


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a module name fits one of the patterns (`*` and `?` as in file names), or lies inside one that does."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def check_patterns(patterns: Iterable[str], names: Iterable[str], what: str) -> None:
    """Raises ModelError for a pattern that fits no name: most likely a misspelt layer."""
    from pocketforge.recipe import suggest

    known = list(names)
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in known):
            raise ModelError(f"{what}: {pattern!r} fits no layer of the model{suggest(pattern, known)}")


def check_subject(subject: Subject) -> None:
    """Raises ModelError when there is nothing to measure an importance on."""
    if not subject.batches:
        raise ModelError("importance needs calibration samples, there are none", "raise data.calibration_samples")
