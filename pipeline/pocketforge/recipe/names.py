"""Names and rules that several tables of a recipe share. Each rule raises ValueError, in the user's words."""

from __future__ import annotations

import difflib
import math
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pocketforge.registries import RUNTIMES

# A name of a registry, checked against its rows where a recipe is read (toml.py): those of plug-ins are in it too.
Runtime = Annotated[str, RUNTIMES]
Layout = Literal["NCHW", "NHWC"]
_MOST_BYTES, _MOST_NESTED, _MOST_PARTS = 2**20, 32, 50
_DEEP_KEY = re.compile(
    r"""(?<![\w"'-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){""" f"{_MOST_PARTS - 1}}}", re.ASCII
)
_LONGEST = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class NamesFiles(Protocol):
    """A table of a recipe that may name files of the user's."""

    def named_files(self) -> dict[str, str]:
        """Key of the table → the file or folder that it names, as it is written there; empty for none."""
        ...


def check_name(name: str, what: str) -> None:
    """Names become file names in release/ and in logs."""
    if not _NAME.match(name):
        raise ValueError(f"{what} must be letters, digits, '.', '_' or '-' (it names files), found {name!r}")


def check_file(path: Path) -> None:
    """Before a TOML file is read: a FIFO or a device may never end, and no file of a user's hand is that large."""
    about = path.stat()
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        raise ValueError("it is no regular file (a pipe, a socket or a device)")
    if about.st_size > _MOST_BYTES:
        raise ValueError(f"wanted at most {_MOST_BYTES:,} bytes, found {about.st_size:,}")


def check_keys(text: str) -> None:
    """Before TOML is parsed: tomllib takes the square of a dotted key's parts in time."""
    if _DEEP_KEY.search(text):
        raise ValueError(f"a key has {_MOST_PARTS} parts or more")


def check_args(args: Mapping[str, object], what: str = "args") -> None:
    """Arguments of a user's code go into keys and into other processes: plain values, as JSON has them."""
    left: list[tuple[str, object, int]] = [(what, args, 0)]
    while left:
        place, value, depth = left.pop()
        if depth > _MOST_NESTED:
            raise ValueError(f"{what} must not be nested deeper than {_MOST_NESTED} tables and arrays")
        if isinstance(value, dict):
            left += [(f"{place}.{key}", inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            left += [(f"{place}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{what} must be plain strings, numbers, booleans, arrays and tables: {place} is {value}")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{what} must hold integers of at most 64 bits: {place} has {value.bit_length()}")
        elif value is not None and not isinstance(value, str | int | float | bool):
            kind = type(value).__name__
            raise ValueError(
                f"{what} must be plain strings, numbers, booleans, arrays and tables: {place} is a {kind}; write it as "
                "a string"
            )


def suggest(found: str, known: Iterable[str]) -> str:
    """Words for a misspelt name: the nearest known one, else the known ones."""
    names = sorted(known)
    if len(found) > _LONGEST:  # nothing is near it, and looking takes the square of its length
        return f"; known: {', '.join(names)}"
    near = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
