"""What apps are known to do wrong between a decoded sample and a file's input, each as a change of the right chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pocketforge.data.base import Array
from pocketforge.why.app_chain import Chain

# The chain with a mistake; None where it cannot be made there.
Changes: TypeAlias = Callable[[Chain], Chain | None]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One known mistake.

    Attributes:
        name: By which it is told from others, as bgr.
        group: Of two mistakes at once each is of another group.
        words: What the app did.
        fix: What to do instead.
        change: The chain with it; None where it cannot be made there.
        undo: What makes a tensor with it comparable to one without; None: the chain with it is compared.
    """

    name: str
    group: str
    words: str
    fix: str
    change: Changes
    undo: Callable[[Array], Array] | None = None
