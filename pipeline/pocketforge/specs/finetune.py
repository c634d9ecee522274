"""What `finetune` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.compress import Finetune, PruneUnstructured
from pocketforge.specs.compress import CompressSpec


@dataclass(frozen=True, slots=True)
class FinetuneSpec(CompressSpec):
    """Stage `finetune`.

    Attributes:
        settings: The entry of [[compress]].
        gradual: The entry before it, of schedule cubic, which prunes while this one trains; None where there is none.
        trained_on: The GPUs in words (`recipe.training.gpus_in_words`); empty: the CPU.
    """

    settings: Finetune
    gradual: PruneUnstructured | None = None
    trained_on: str = ""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"trained_on"})
