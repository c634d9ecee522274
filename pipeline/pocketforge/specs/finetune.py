"""What `finetune` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.compress import Finetune, PruneUnstructured
from pocketforge.specs.compress import CompressSpec


@dataclass(frozen=True, slots=True)
class FinetuneSpec(CompressSpec):
    """Stage `finetune`.

    Attributes:
        settings: The entry of [[compress]].
        gradual: The entry before it, of schedule cubic, which prunes while this one trains; None where there is none.
    """

    settings: Finetune
    gradual: PruneUnstructured | None = None
