"""What every spec has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spec:
    """What one step of a stage is told. All that its result depends on, but for what the step reads, stands here.

    Fields are plain values, tuples, mappings and frozen dataclasses of them: a spec goes to the stage's process, and
    as JSON into the step's key and record.
    """

    def to_json(self) -> dict[str, Any]:
        """Every field by its name."""
        return dataclasses.asdict(self)
