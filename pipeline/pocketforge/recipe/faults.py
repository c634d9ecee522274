"""What is wrong with a recipe, each fault with the place of the key or table that it is of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        message: What was wanted and what was found.
        at: Where, from the table that says it: `budget[0].limit`; empty for that table as a whole.
    """

    message: str
    at: str = ""

    def inside(self, place: str) -> Fault:
        """The same, said from the table that holds this one at `place`."""
        return Fault(self.message, join(place, self.at))

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


class WrongTable(ValueError):
    """A table breaks rules: every fault that it found. One rule alone may be a plain ValueError."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def join(place: str, key: str) -> str:
    """`budget[0]` and `limit` → `budget[0].limit`; either may be empty, and an index stands without a dot."""
    return f"{place}.{key}" if place and key and not key.startswith("[") else place + key
