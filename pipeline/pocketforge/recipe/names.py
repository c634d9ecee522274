"""Rules that values of several tables of a recipe share. Each raises ValueError, in the user's words."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_name(name: str, what: str) -> None:
    """Names become file names in release/ and in logs."""
    if not _NAME.match(name):
        raise ValueError(f"{what} must be letters, digits, '.', '_' or '-' (it names files), found {name!r}")


def positive(value: float, what: str) -> None:
    if value <= 0:
        raise ValueError(f"{what} must be more than 0, found {value}")
