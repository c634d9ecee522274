"""Kinds of text and numbers that records are made of. What they may be goes into schema.json; nothing reads it else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class May:
    """What a value may be, beyond its type.

    Attributes:
        least: The smallest number; None is no bound.
        most: The largest number; None is no bound.
        pattern: What a text must match; empty is any.
        filled: Whether a text or a list must hold something.
        names: The known words; () is any text. Packages that are installed beside may add to them.
        keys: Those that a table must have.
        from_plugins: Nothing but what packages add that are installed beside.
    """

    least: float | None = None
    most: float | None = None
    pattern: str = ""
    filled: bool = False
    names: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    from_plugins: bool = False


Sha256 = Annotated[str, May(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, May(filled=True)]
Share = Annotated[float, May(least=0, most=1)]
Bytes = Annotated[int, May(least=0)]
FileBytes = Annotated[int, May(least=1)]
NotNegative = Annotated[float, May(least=0)]
Words = Annotated[Mapping[str, object], May(from_plugins=True)]
Count = Annotated[int, May(least=0)]
