"""Names and rules that several tables of a recipe share. Each rule raises ValueError, in the user's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Literal

Runtime = Literal["executorch", "tflite", "onnx"]
Layout = Literal["NCHW", "NHWC"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_name(name: str, what: str) -> None:
    """Names become file names in release/ and in logs."""
    if not _NAME.match(name):
        raise ValueError(f"{what} must be letters, digits, '.', '_' or '-' (it names files), found {name!r}")


def positive(value: float, what: str) -> None:
    if value <= 0:
        raise ValueError(f"{what} must be more than 0, found {value}")


def suggest(found: str, known: Iterable[str]) -> str:
    """Words for a misspelt name: the nearest known one, else the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
