"""Which versions of libraries were tested together: what our own package requires, and how others stand to that."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pocketforge.version import PACKAGE, requirements

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)")
_CLAUSE = re.compile(r"(==|>=|<=|<|>)\s*(\d+(?:\.\d+)*)")
# The order of a version to a clause's → the operators that it breaks.
_TOO_LOW = {-1: ("==", ">=", ">"), 0: (">",)}
_TOO_HIGH = {1: ("==", "<=", "<"), 0: ("<",)}
_RELEASE = re.compile(r"v?(?:\d+!)?(\d+(?:\.\d+)*)(.*)")


def required() -> dict[str, str]:
    """Library → the versions that were tested, as "==1.5.1" or "<2,>=1.15"; "" where any will do. Empty if unknown."""
    return parse(line for lines in requirements().values() for line in lines)


def parse(requirements: Iterable[str]) -> dict[str, str]:
    """The same, of requirements as PEP 508 writes them. Markers (extras) are passed over: all extras are one set."""
    pins = {}
    for text in requirements:
        match = _REQUIREMENT.match(text.strip())
        if match and normal(match[1]) != PACKAGE:
            pins[normal(match[1])] = ",".join(sorted(clause.strip() for clause in match[2].split(",")))
    return pins


def normal(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def standing(version: str, wanted: str) -> str:
    """How an installed version stands to the wanted ones: "" when it is one of them, else "older" or "newer".

    Versions as PEP 440 orders them, as far as libraries' releases use it: a local part (+cpu) counts for nothing, a
    pre-release is before its release and a post-release after. What is no version number is "another". Raises
    ValueError for a requirement of a form that we do not write.
    """
    for clause in filter(None, wanted.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(f"a requirement of another form than ==, >=, <=, < or > and numbers: {clause!r}")
        order = _compare(version, match[2])
        if order is None:
            return "another"
        if match[1] in _TOO_LOW.get(order, ()):
            return "older"
        if match[1] in _TOO_HIGH.get(order, ()):
            return "newer"
    return ""


def _compare(version: str, release: str) -> int | None:
    """-1, 0 or 1; None for no version number."""
    match = _RELEASE.fullmatch(version.partition("+")[0].strip())
    if match is None:
        return None
    installed, pinned = _numbers(match[1]), _numbers(release)
    if installed != pinned:
        return 1 if installed > pinned else -1
    if not match[2]:
        return 0
    return 1 if re.match(r"[-._]?(post|rev|r)?\d+$", match[2]) else -1


def _numbers(release: str) -> tuple[int, ...]:
    numbers = [int(part) for part in release.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
