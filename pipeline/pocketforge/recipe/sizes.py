"""Sizes of inputs that vary: `"H:32..640:32"` in a shape, the sizes that files are verified at, and buckets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# Name of a size → its value.
Sizes: TypeAlias = Mapping[str, int]

_RANGE = re.compile(r"([A-Za-z_]\w*):(\d{1,9})\.\.(\d{1,9})(?::(\d{1,9}))?\Z", re.ASCII)
_FORM = '"NAME:MIN..MAX" or "NAME:MIN..MAX:STEP"'


@dataclass(frozen=True, slots=True)
class SizeRange:
    """One dimension of an input, whose length an app may choose.

    Attributes:
        name: Dimensions of one name have one length.
        axis: Which dimension of the input.
        least: The smallest length; a multiple of `step`, as all are.
        most: The largest.
        step: From one length to the next.
    """

    name: str
    axis: int
    least: int
    most: int
    step: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least < self.most:
            raise ValueError(
                f"shape: {self} must go from 1 or more to more than that; a size that is fixed is a number"
            )
        if self.step < 1 or self.least % self.step or self.most % self.step:
            raise ValueError(f"shape: the ends of {self} must be multiples of its step")

    def __str__(self) -> str:
        return f"{self.name}:{self.least}..{self.most}" + (f":{self.step}" if self.step > 1 else "")

    @property
    def bounds(self) -> tuple[int, int, int]:
        """What dimensions of one name have to share."""
        return self.least, self.most, self.step

    @property
    def middle(self) -> int:
        """A length half way, an odd number of steps from the least: where all are tried, odd and even ones are."""
        steps = (self.most - self.least) // self.step
        return self.least + (steps // 2 | 1) * self.step

    def fault(self, length: int) -> str:
        """Why an input cannot have a length; empty where it can."""
        if not self.least <= length <= self.most:
            return f"{self.name} is {self.least} to {self.most}, found {length}"
        if length % self.step:
            near = max(self.least, length // self.step * self.step)
            return f"{self.name} is a multiple of {self.step}, found {length}; nearest: {near}, {near + self.step}"
        return ""


def parse_shape(shape: Sequence[object]) -> tuple[list[object], tuple[SizeRange, ...]]:
    """A shape as TOML has it → each length, of those that vary the largest, and what varies. Raises ValueError."""
    lengths, ranges = list(shape), []
    for axis, length in enumerate(shape):
        if not isinstance(length, str) or not {":", "."} & set(length):
            continue  # no range, and what it has to be is said where all types are looked at
        found = _RANGE.match(length)
        if not found:
            raise ValueError(f"shape: a size that varies is written {_FORM}, found {length!r}")
        name, least, most, step = found.groups()
        ranges.append(SizeRange(name, axis, int(least), int(most), int(step or 1)))
        lengths[axis] = int(most)
    return lengths, tuple(ranges)


def by_name(ranges: Sequence[SizeRange]) -> dict[str, SizeRange]:
    """Each name once, in the order in which they come first."""
    found: dict[str, SizeRange] = {}
    for each in ranges:
        found.setdefault(each.name, each)
    return found


def tried_sizes(ranges: Sequence[SizeRange]) -> tuple[dict[str, int], ...]:
    """The sizes at which every file is compared with PyTorch: both ends, the middle, and where there are several names
    one at which they differ, so that none is taken for another."""
    named = by_name(ranges).values()
    tried = [{r.name: r.least for r in named}, {r.name: r.middle for r in named}, {r.name: r.most for r in named}]
    if len(named) > 1:
        tried.append({r.name: r.least if n == 0 else r.most for n, r in enumerate(named)})
    return tuple({tuple(each.items()): each for each in tried}.values())


def sizes_in_words(sizes: Sizes) -> str:
    """`H 32, W 64`."""
    return ", ".join(f"{name} {length}" for name, length in sizes.items())


def suffix(size: Sequence[int]) -> str:
    """What a bucket's name ends in: `320x320`."""
    return "x".join(map(str, size))


def length_faults(size: Sequence[int], ranges: Sequence[SizeRange]) -> list[str]:
    """Why the lengths, in the order of the names, cannot be an input's; none where they can."""
    named = by_name(ranges)
    if len(size) != len(named):
        return [f"wanted a length for each of {', '.join(named)}, found {list(size)}"]
    return [fault for each, length in zip(named.values(), size, strict=True) if (fault := each.fault(length))]
