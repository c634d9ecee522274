"""The layers of an exported graph: which nodes compute with weights, and what the user calls each."""

from __future__ import annotations

import difflib
import fnmatch
import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from pocketforge.errors import ModelError
from pocketforge.rewrites.graph import USE
from pocketforge.rewrites.graph import op_name as op_name  # what layers are told apart by, for this room too

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
WEIGHTED = (*_CONVOLUTIONS, "linear", "addmm", "matmul", "mm", "bmm")
# Weights that are looked up and not multiplied: float in every scheme that computes in integers.
LOOKED_UP = frozenset({"embedding", "embedding_bag", "_embedding_bag"})

# So many names are told for one that there is not.
_NEAREST = 8
# Of a module that is called again: each call has a copy of the weight.
_COPY = re.compile(rf"\.{USE}\d+$")


@dataclass(frozen=True, slots=True)
class Layer:
    """What computes with weights.

    Attributes:
        name: Of its module (`features.0.0`), or of the node where it has no weight.
        op: `conv2d`, `linear` …
        node: The graph's node.
    """

    name: str
    op: str
    node: str


def layers_of(graph: torch.fx.Graph) -> list[Layer]:
    """Convolutions, linear layers and matrix products, in the graph's order."""
    return [Layer(owner(node), op_name(node), node.name) for node in graph.nodes if op_name(node) in WEIGHTED]


def owner(node: torch.fx.Node) -> str:
    """The module an op belongs to, by its weight's name; all calls of a module have the same."""
    return _module_of(constant_before(node.args[1]) if len(node.args) > 1 else None, node)


def table_of(node: torch.fx.Node) -> torch.fx.Node | None:
    """The constant that an embedding looks up in; None where it is computed from an input."""
    return constant_before(node.args[0])


def name_of_table(node: torch.fx.Node) -> str:
    """The module that an embedding belongs to, by its weight's name."""
    return _module_of(table_of(node), node)


def _module_of(weight: torch.fx.Node | None, node: torch.fx.Node) -> str:
    """The node's own name without a weight."""
    return str(node.name) if weight is None else _COPY.sub("", str(weight.target).removesuffix(".weight"))


def constant_before(value: object) -> torch.fx.Node | None:
    """The constant that a value is made from, each op's first input followed; None where it is no constant's."""
    while isinstance(value, torch.fx.Node):
        if value.op == "get_attr":
            return value
        value = value.args[0] if value.args else None
    return None


def matching(patterns: Iterable[str], layers: Sequence[Layer], where: str) -> dict[str, list[str]]:
    """Names of the layers that each shell pattern means. Raises ModelError for a pattern that means none."""
    names = [layer.name for layer in layers]
    matches = {}
    for pattern in patterns:
        matches[pattern] = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches[pattern]:
            raise ModelError(f"{where}: no layer is named {pattern!r}", nearest(pattern, names))
    return matches


def nearest(pattern: str, names: Sequence[str]) -> str:
    """A hint: the names most like a pattern that means none of them; the first where nothing is like it."""
    near = difflib.get_close_matches(pattern, dict.fromkeys(names), n=_NEAREST, cutoff=0.5)
    known = list(dict.fromkeys(names))
    shown = near or known[:_NEAREST]
    told = f"{'nearest' if near else 'there are'}: {', '.join(shown) or 'none'}"
    return told if len(shown) == len(known) else f"{told}; `pocketforge check RECIPE --verbose` lists all {len(known)}"


def count_weights(graph: torch.fx.GraphModule, name: str) -> int:
    """How many weights a layer has; 0 for a product of two activations."""
    for node in graph.graph.nodes:
        if op_name(node) in WEIGHTED and owner(node) == name and len(node.args) > 1:
            value = node.args[1].meta.get("val") if isinstance(node.args[1], torch.fx.Node) else None
            source = constant_before(node.args[1])
            if source is None:
                return 0
            return math.prod(value.shape) if value is not None else _attribute(graph, str(source.target)).numel()
    return 0


def _attribute(graph: torch.fx.GraphModule, path: str) -> torch.Tensor:
    value = operator.attrgetter(path)(graph)
    assert isinstance(value, torch.Tensor)
    return value
