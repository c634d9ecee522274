"""What `sensitivity` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.compress import PruneChannels
from pocketforge.recipe.output import Output
from pocketforge.specs.compress import CompressSpec


@dataclass(frozen=True, slots=True)
class SensitivitySpec(CompressSpec):
    """Stage `sensitivity`.

    Attributes:
        pruning: What decides which channels go first and which may; nothing of how many go in the end.
        metric: The recipe's, by which a cut model is judged: `NAME` or `OUTPUT.NAME`.
        outputs: What each output is, in the recipe's words; the task's where it says none.
        output_names: What the recipe calls the model's outputs; () where it does not.
    """

    pruning: PruneChannels
    metric: str
    outputs: tuple[Output, ...]
    output_names: tuple[str, ...]


def studied(entry: PruneChannels) -> PruneChannels:
    """The part of an entry that a study depends on: entries that differ in how much they prune share one study."""
    return PruneChannels(
        ratio="auto",
        importance=entry.importance,
        round_to=entry.round_to,
        protect=entry.protect,
        max_ratio=entry.max_ratio,
    )
