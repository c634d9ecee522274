"""A budget that is known not to be kept, and may be so until a day."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Waiver:
    """Lets a build pass with a budget that is not kept. After its last day it makes that budget FAIL, whatever else.

    Attributes:
        metric: Of the budgets, as they write it.
        owner: Who answers for it.
        reason: Why it may be so.
        expires: The last day (UTC) on which it holds, as 2027-01-31.
        target: Of the budgets' results; empty for every target.
        device: The same of the device.
    """

    metric: str
    owner: str
    reason: str
    expires: str
    target: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        for name in ("owner", "reason"):
            text = getattr(self, name)
            if not text.strip():
                raise ValueError(f"{name} of a waiver is empty")
            if len(text) > _LONGEST:
                raise ValueError(f"{name} of a waiver has {len(text):,} characters, wanted at most {_LONGEST}")
        try:
            day = datetime.date.fromisoformat(self.expires)
        except ValueError:
            day = None
        if day is None or day.isoformat() != self.expires:
            raise ValueError(f'expires must be a day as "2027-01-31", found {self.expires!r}')

    @property
    def last_day(self) -> datetime.date:
        return datetime.date.fromisoformat(self.expires)
