"""nodes.json: which layer each node of an exported program is of, by what its runtime's errors call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LoweredNode:
    """One node of a program as a runtime runs it.

    Attributes:
        op: Its operator's name, as in `conv2d`.
        handle: The number by which errors call it; None where it has none.
        layer: The layer that it is of, with its line of code.
    """

    op: str
    handle: int | None
    layer: str


@dataclass(frozen=True, slots=True)
class LoweredNodes:
    """What an exporter may leave beside its file, for errors of a runtime that knows no layers.

    Attributes:
        nodes: In the program's order, those of delegates last.
    """

    FILE: ClassVar[str] = "nodes.json"

    nodes: tuple[LoweredNode, ...]
