"""What stages are told of the user's model, which they build and give its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class ModelSource(Spec):
    """Where a model comes from. Its weights are a file that the step reads.

    Attributes:
        definition: A file of the recipe's folder, or a library's name and its model's.
        args: What the definition's build() is called with.
        seed: Of weights that no file gives.
        weights_key: The entry of a weights file that holds the state dict; empty where the file says it itself.
        input_names: Of the recipe's inputs, in their order; empty for none.
        arguments: Of forward(), that each input goes to; empty where the recipe says none.
    """

    definition: str
    args: Mapping[str, Any]
    seed: int
    weights_key: str = ""
    input_names: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
