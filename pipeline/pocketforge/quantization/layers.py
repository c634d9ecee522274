"""The layers of an exported graph: which nodes compute with weights, and what the user calls each."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from pocketforge.errors import ModelError
from pocketforge.rewrites.graph import USE
from pocketforge.rewrites.graph import op_name as op_name  # what layers are told apart by, for this room too

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
WEIGHTED = (*_CONVOLUTIONS, "linear", "addmm", "matmul", "mm", "bmm")

# Of a module that is called again: each call has a copy of the weight.
_COPY = re.compile(rf"\.{USE}\d+$")


@dataclass(frozen=True, slots=True)
class Layer:
    """name: of its module (`features.0.0`), or of the node where it has no weight. op: `conv2d`, `linear` …"""

    name: str
    op: str
    node: str


def layers_of(graph: torch.fx.Graph) -> list[Layer]:
    """Convolutions, linear layers and matrix products, in the graph's order."""
    return [Layer(owner(node), op_name(node), node.name) for node in graph.nodes if op_name(node) in WEIGHTED]


def owner(node: torch.fx.Node) -> str:
    """The module an op belongs to, by its weight's name; all calls of a module have the same."""
    for argument in node.args[1:2]:
        while isinstance(argument, torch.fx.Node):
            if argument.op == "get_attr":
                return _COPY.sub("", str(argument.target).removesuffix(".weight"))
            argument = argument.args[0] if argument.args else None  # type: ignore[assignment]
    return str(node.name)


def matching(patterns: Iterable[str], layers: Sequence[Layer], where: str) -> dict[str, list[str]]:
    """Names of the layers that each shell pattern means. Raises ModelError for a pattern that means none."""
    names = [layer.name for layer in layers]
    found = {}
    for pattern in patterns:
        found[pattern] = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not found[pattern]:
            raise ModelError(f"{where}: no layer is named {pattern!r}", f"layers: {', '.join(names) or 'none'}")
    return found
