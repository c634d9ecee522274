"""What a study of pruning compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketforge.recipe.compress import Finetune

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Settings:
    """What to compare. runtimes: empty for none. rounds: how often each file is timed, in turns with the others."""

    ratios: tuple[float, ...]
    seeds: int
    methods: tuple[str, ...]
    by: tuple[str, ...]
    runtimes: tuple[str, ...]
    finetune: Finetune
    rounds: int
