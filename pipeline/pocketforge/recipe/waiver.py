"""A budget that is known not to be kept, and may be so until a day."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.budget import Budget

_LONGEST = 500
# What tells budgets apart beside where they hold.
TOLD_APART = ("metric", "percentile", "slice", "per", "baseline")


@dataclass(frozen=True, slots=True)
class Waiver:
    """Lets a build pass with a budget that is not kept. After its last day it makes that budget FAIL, whatever else.

    Attributes:
        metric: Of the budgets, as they write it. So are percentile, slice, per and baseline: a waiver of a limit on the
            median is none of the limit on p99, nor one of all samples of the limit on each class.
        owner: Who answers for it.
        reason: Why it may be so.
        expires: The last day (UTC) on which it holds, as 2027-01-31.
        target: Of the budgets' results; empty for every target.
        device: The same of the device.
        percentile: Of the budgets.
        slice: Of the budgets.
        per: Of the budgets.
        baseline: Of the budgets.
    """

    metric: str
    owner: str
    reason: str
    expires: str
    target: str = ""
    device: str = ""
    percentile: Literal["min", "p50", "p90", "p99"] = "p50"
    slice: str = ""
    per: Literal["all", "class"] = "all"
    baseline: str = ""

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

    def is_of(self, budget: Budget) -> bool:
        """Whether it says what the budget says, wherever the budget holds."""
        return all(getattr(self, name) == getattr(budget, name) for name in TOLD_APART)

    @property
    def last_day(self) -> datetime.date:
        return datetime.date.fromisoformat(self.expires)
