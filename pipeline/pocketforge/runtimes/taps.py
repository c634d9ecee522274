"""How layers of a runtime's files are looked at: what the modules give that a row of RUNTIMES names for `why`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pocketforge.registries import Why

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node


@dataclass(frozen=True, slots=True)
class FileTap:
    """A layer's output that was made an output of a file, to look at it.

    Attributes:
        name: Of the op in the file.
        kind: `conv` or `linear`.
        output: Its position among the file's outputs.
        weight: Shape of the layer's weight, as the file holds it.
        scale: Where the value is an integer and the session does not say so: the real value of one level.
        zero_point: The level of a real 0, where there is a scale.
        is_nhwc: Whether an image comes out with its channels last, whatever the model's own layout is.
    """

    name: str
    kind: str
    output: int
    weight: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    is_nhwc: bool


class FileTapper(Protocol):
    """A module that `Why.tap` names."""

    def tap_file(self, path: Path, out: Path) -> list[FileTap]:
        """Write `path` to `out` with each layer's output added; returns them in the file's order."""
        ...


class Lowering(Protocol):
    """A module that `Why.lowered` names."""

    def lower(
        self, program: ExportedProgram, file: Path | None = None
    ) -> Callable[..., Sequence[torch.Tensor] | torch.Tensor]:
        """The lowered program as a function of the inputs, run in Python. file: where to write it, if wanted too."""
        ...

    def with_outputs(
        self, module: GraphModule, nodes: Sequence[Node], example: tuple[torch.Tensor, ...]
    ) -> ExportedProgram:
        """The graph with the values of `nodes` as its outputs, traced again."""
        ...


def file_tapper(how: Why) -> FileTapper:
    """Raises ImportError."""
    return cast(FileTapper, importlib.import_module(how.tap))


def lowering(how: Why) -> Lowering:
    """Raises ImportError."""
    return cast(Lowering, importlib.import_module(how.lowered))
