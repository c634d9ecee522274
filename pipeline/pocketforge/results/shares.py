"""Losses of scores over outputs that are shares already: what a recipe's training would lose by it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pocketforge.outcomes.reference import Reference, SharesOf
from pocketforge.recipe import Recipe
from pocketforge.recipe.output import Output

# Losses that take softmax of scores, and sigmoid.
_OF_SCORES = {"softmax": ("cross_entropy", "focal"), "sigmoid": ("bce", "focal")}
_WAYS = {"cross_entropy": "cross entropy", "focal": "focal loss", "bce": "binary cross entropy"}


def shares_warnings(recipe: Recipe, model: Reference) -> Iterator[str]:
    """A line for each output whose loss takes shares of shares, where something of the recipe goes by it."""
    because = next(recipe.going_by_losses(), "")
    if not because:
        return
    for shares in model.shares:
        output = _judged(recipe, model, shares)
        loss = output.trained_by if output is not None else ""
        if output is None or loss not in _OF_SCORES[shares.kind] or not _takes_scores(output, shares):
            continue
        yield (
            f"output {shares.output!r} ends in {shares.layer}, and {because} goes by {_WAYS[loss]}, which takes "
            f"{shares.kind} of it once more: {_flat(shares)}. Let forward() return the scores before that layer while "
            f"self.training{_said(output)}"
        )


def _judged(recipe: Recipe, model: Reference, shares: SharesOf) -> Output | None:
    """The recipe's output of a name; a task's, or one alone, is the model's first."""
    for output in recipe.judged:
        if shares.output == (output.name or model.outputs[0].name):
            return output
    return None


def _takes_scores(output: Output, shares: SharesOf) -> bool:
    if output.role == "logits":
        return output.post.type != "none"
    if output.role in ("multilabel", "binary"):
        return shares.kind == "sigmoid" and output.processed != "none"
    return True


def _flat(shares: SharesOf) -> str:
    if shares.kind == "sigmoid":
        return "the right answer still costs log(1 + 1/e) = 0.31, and gradients are small"
    # Of one right share and n - 1 of nothing.
    least = math.log(1 + (shares.classes - 1) / math.e)
    return f"of {shares.classes} classes the right answer still costs {least:.2f}, and gradients are small"


def _said(output: Output) -> str:
    able = output.role in ("logits", "multilabel", "binary")
    return f', or say in [[output]] that it gives shares: role = "{output.role}", post = "none"' if able else ""
