"""What a number in a recipe may be: each has a range, so that a slip of a unit or of a zero is said at the door.

A class lists them in RANGES and calls `check_ranges`; a test holds that no number is left out. Ranges are wide: what is
outside of one is a mistake, not a matter of taste.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pocketforge.recipe.faults import Fault, WrongTable

_PERCENT = 100
# Of Linux: NAME_MAX and PATH_MAX.
_NAME_BYTES, _PATH_BYTES = 255, 4096


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be: low to high.

    Attributes:
        low: The least, in `unit`.
        high: The most.
        open_low: Whether `low` itself is out.
        open_high: Whether `high` itself is out.
        unit: Said with the range; empty for plain numbers.
        share: Whether it is a share, of which 98 was perhaps meant as 0.98.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    unit: str = ""
    share: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value  # both are false of NaN
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        text = f"{low} to {high}"
        if self.open_low or self.open_high:
            low = f"more than {low}" if self.open_low else f"{low} or more"
            text = f"{low} and {'less than' if self.open_high else 'at most'} {high}"
        return f"{text} {self.unit}".rstrip()

    def fault(self, value: float, what: str) -> str:
        """What is wrong with a value, in a user's words; empty when nothing is."""
        if value in self:
            return ""
        meant = value / _PERCENT
        hint = f"; did you mean {meant:g}?" if self.share and value > 1 and meant in self else ""
        return f"{what} must be {self}, found {value}{hint}"


class Ranged(Protocol):
    """A table whose numbers have ranges: key → what it may be, or what each of its entries may be."""

    RANGES: ClassVar[Mapping[str, Range]]


def check_ranges(table: Ranged) -> None:
    """Raises ValueError with every number of a table that is out of its range, a line each."""
    faults = range_faults(table)
    if faults:
        raise WrongTable(*map(Fault, faults))


def range_faults(table: Ranged) -> list[str]:
    """As `check_ranges`, for a table that has more faults to tell."""
    found = []
    for name, allowed in table.RANGES.items():
        for what, value in _values(name, getattr(table, name)):
            found.append(allowed.fault(value, what))
    return [fault for fault in found if fault]


def _values(name: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{name}.{key}", inner
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield f"{name}[{index}]", inner
    elif isinstance(value, int | float):
        yield name, value


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def check_path(path: str, what: str) -> None:
    """A path that no system could open is no path: said here, not by whatever opens it first."""
    if "\0" in path:
        raise ValueError(f"{what} must be a path, found one with a NUL character in it")
    longest = max((len(os.fsencode(part)) for part in path.split("/")), default=0)
    if longest > _NAME_BYTES:
        raise ValueError(f"{what} must be a path whose names have at most {_NAME_BYTES} bytes, found one of {longest}")
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise ValueError(f"{what} must be a path of at most {_PATH_BYTES} bytes, found {len(os.fsencode(path))}")


# What several tables have.
COUNT = Range(1, 10_000_000)
COUNT_OR_NONE = Range(0, 10_000_000)
SHARE = Range(0, 1, share=True)  # both ends make sense: 0 switches a limit off, 1 wants all
INNER_SHARE = Range(0, 1, open_low=True, open_high=True, share=True)
SHARE_BELOW_ONE = Range(0, 1, open_high=True, share=True)
DECIBELS = Range(-200, 300, unit="dB")
SECONDS = Range(0, 86_400, unit="seconds")
TIME_LIMIT_S = Range(0, 604_800, open_low=True, unit="seconds")
THREADS = Range(1, 1024)
STEPS_OF_OUTPUT = Range(0, 65_536, unit="steps of the output's scale")
