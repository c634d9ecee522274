"""What every spec has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Spec:
    """What one step of a stage is told. All that its result depends on, but for what the step reads, stands here.

    Fields are plain values, tuples, mappings and frozen dataclasses of them: a spec goes to the stage's process, and
    as JSON into the step's key and record.
    """

    # Fields that are left out of keys and records while they are empty: what came later leaves keys as they were.
    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Every field by its name; of OMIT_EMPTY those that say something."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value or name not in self.OMIT_EMPTY}
