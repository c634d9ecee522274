"""estimate.json: an estimate, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.estimation.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Estimated:
    """What stage `estimate` found.

    Attributes:
        estimate: Cycles and latency with their interval; None outside what the core model was fitted on.
        refused: Why there is no estimate; empty where there is one.
    """

    FILE: ClassVar[str] = "estimate.json"

    estimate: Estimate | None
    refused: str = ""

    def to_json(self, *, blocks: bool = True) -> dict[str, object]:
        """As reports have it: the estimate's figures, or "refused" alone. blocks: also those that take most cycles."""
        if self.estimate is None:
            return {"refused": self.refused}
        return {name: value for name, value in self.estimate.to_json().items() if blocks or name != "top"}
