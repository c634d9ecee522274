"""The words after --ratios, --methods, --by and --runtimes. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from typing import TypeVar

from pocketforge.recipe import suggest

STEP = "0.1"
MOST = 100
Word = TypeVar("Word", bound=str)
_NUMBER = re.compile(r"(0|[1-9][0-9]*)?(\.[0-9]{1,6})?\Z")


def parse_ratios(text: str, step: str = "") -> tuple[float, ...]:
    """`0.1..0.7` (in steps of 0.1), `0.1..0.7:0.2`, `0.1,0.3` or one number → rising ratios.

    step: the step of a range that names none itself. Decimals are exact: 0.1..0.7 ends at 0.7. Raises ValueError for
    anything else: not a number, not more than 0 and less than 1, a range that goes down, the same ratio twice.
    """
    first, dots, rest = text.partition("..")
    if not dots:
        if step:
            raise ValueError(f"a step is for a range such as 0.1..0.7, found {text!r}")
        ratios = [_ratio(word) for word in text.split(",")]
    else:
        last, colon, own = rest.partition(":")
        if colon and step:
            raise ValueError(f"the step is given twice: in {text!r} and as {step!r}")
        ratios = _range(_ratio(first), _ratio(last), _number(own if colon else step or STEP, "a step"))
    twice = sorted({ratio for ratio in ratios if ratios.count(ratio) > 1})
    if twice:
        raise ValueError(f"the same ratio twice: {twice[0]}")
    return tuple(float(ratio) for ratio in sorted(ratios))


def parse_choice(text: str, known: Collection[Word]) -> tuple[Word, ...]:
    """`a,b` → the named ones, in `known`'s order. Raises ValueError for an unknown name, none, or one twice."""
    words = text.split(",")
    for word in words:
        if word not in known:
            raise ValueError(f"no {word!r}{suggest(word, known)}")
        if words.count(word) > 1:
            raise ValueError(f"{word!r} twice")
    return tuple(word for word in known if word in words)


def _range(first: Decimal, last: Decimal, step: Decimal) -> list[Decimal]:
    if step <= 0:
        raise ValueError("a step must be more than 0")
    if last < first:
        raise ValueError(f"a range goes up, found {first}..{last}")
    count = int((last - first) / step) + 1
    if count > MOST:
        raise ValueError(f"{first}..{last} in steps of {step} are {count} ratios; the most is {MOST}")
    return [first + step * number for number in range(count)]


def _ratio(word: str) -> Decimal:
    value = _number(word, "a ratio")
    if not 0 < value < 1:
        raise ValueError(f"a ratio must be more than 0 and less than 1, found {word}")
    return value


def _number(word: str, what: str) -> Decimal:
    if not word or word == "." or not _NUMBER.match(word):
        raise ValueError(f"{what} must be a decimal number such as 0.1 (at most 6 places), found {word!r}")
    return Decimal(word)
