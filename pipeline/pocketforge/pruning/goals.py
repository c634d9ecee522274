"""How many pieces to remove for a goal: the fewest with which the model is at or below the limit."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pocketforge.errors import ModelError
from pocketforge.outcomes.prune import ReachedGoal
from pocketforge.pruning.base import Subject
from pocketforge.pruning.costs import cost, goal_limit
from pocketforge.recipe.compress import Goal

# What is measured on an exported file takes an export: coarser, but the candidate taken was measured below the limit.
EXPORTED_TRIALS = 6


def fewest(
    subject: Subject, goal: Goal, count: int, candidate: Callable[[int], nn.Module], excuse: str
) -> tuple[int, ReachedGoal]:
    """(pieces to remove, what is reached of the goal). `candidate(n)` is the model without the first n pieces.

    Bisects: more pieces removed never cost more. Raises ModelError when even candidate(count) is above the limit, with
    the least that can be reached and `excuse`, why it is no less.
    """

    def measured(removed: int) -> float:
        return cost(candidate(removed), goal.metric, subject.example, subject.measure)

    now = measured(0)
    limit = goal_limit(goal, now, subject.step, subject.steps)
    if now <= limit:
        return 0, ReachedGoal(goal.metric, now, limit, reached=now)
    least = measured(count) if count else now
    # The last step's limit must be within reach from the first on: fine-tuning in between takes hours.
    final = goal_limit(goal, now, 1, 1) if subject.step == 1 else limit
    if least > final:
        raise ModelError(
            f"goal {goal.metric} <= {_plain(final)} cannot be met: "
            f"pruning all that may be pruned leaves {_plain(least)}{excuse}",
            "raise the limit, protect less, or use drop_layers first",
        )
    low, high, reached = 0, count, least
    trials = count if goal.metric in ("macs", "parameters") else EXPORTED_TRIALS
    while high - low > 1 and trials > 0:
        trials -= 1
        middle = (low + high) // 2
        left = measured(middle)
        subject.emit(0.5, f"{middle} of {count} pieces removed: {goal.metric} {_plain(left)}, wanted {_plain(limit)}")
        if left <= limit:
            high, reached = middle, left
        else:
            low = middle
    return high, ReachedGoal(goal.metric, now, limit, reached)


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
