"""What stages of tests are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class ToldSpec(Spec):
    """Anything, by name."""

    told: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.told[name]
