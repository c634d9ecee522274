"""What is named in the text of operands, as capstone writes it: `v0.4s, v1.16b, v2.4b[1]`, `w0, [x1, #4]!`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REGISTER = re.compile(r"\b(?:([wx])(\d+)|([vqdshbz])(\d+)|(w?sp))\b")
# Bytes of a register or of a vector's element, by the letter that names it.
BYTES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16, "w": 4, "x": 8}


def registers(text: str) -> tuple[int, ...]:
    """Numbers of the registers named, in order; the zero registers are none."""
    numbers = []
    for match in _REGISTER.finditer(text):
        if match.group(2):
            numbers.append(int(match.group(2)))
        elif match.group(4):
            numbers.append(32 + int(match.group(4)))
        else:
            numbers.append(31)
    return tuple(numbers)


def has_vector(text: str) -> bool:
    """Whether a vector register is named."""
    return any(match.group(3) for match in _REGISTER.finditer(text))


def names(text: str) -> frozenset[str]:
    """The words of a table's cell."""
    return frozenset(text.split())


def by_name(table: Mapping[str, str]) -> dict[str, str]:
    """A table of words, row → words, the other way round: each word → its row."""
    return {word: row for row, words in table.items() for word in words.split()}
