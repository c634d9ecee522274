"""Where a graph's layers give their outputs, so that the same layer can be looked at in two graphs.

A layer is a convolution, a product, an addition …, with what belongs to it: batch norm, activation, the quantization
of its output. Exporters fold and fuse these, so only what comes out behind them is the same value in every graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from pocketforge.metrics import Array
from pocketforge.quantization.weighted import WEIGHTED, op_name, owner
from pocketforge.rewrites.packing import is_packed

OTHERS = (
    "add", "sub", "mul", "cat", "mean", "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d", "layer_norm", "softmax",
    "scaled_dot_product_attention", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "embedding",
)  # fmt: skip
_BEHIND = ("batch_norm", "relu", "relu6", "hardtanh", "clamp", "dropout")
Values = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Tap:
    """A layer's output in a graph.

    Attributes:
        layer: The module's name, or the node's.
        op: What it computes.
        anchor: The node that computes it.
        node: Whose value the output is, behind what belongs to the layer.
        same: Nodes that hold the same value.
        weight: Shape of the layer's weight; empty where it has none or it is not known.
    """

    layer: str
    op: str
    anchor: Node
    node: Node
    same: tuple[Node, ...]
    weight: tuple[int, ...] = ()


def taps_of(graph: torch.fx.Graph, *, raw: bool = False) -> list[Tap]:
    """Every layer of a traced, prepared or converted graph, in its order. raw: before batch norm and activation."""
    taps = []
    for node in graph.nodes:
        op = kind(node)
        if is_packed(node):  # graphs of one model have other nodes there
            continue
        if op not in WEIGHTED and op not in OTHERS and not (raw and op == "batch_norm"):
            continue
        last, same = (node, (node,)) if raw else _end(node)
        named = op in WEIGHTED or op == "batch_norm"
        taps.append(Tap(owner(node) if named else node.name, op, node, last, same, _weight_shape(node)))
    return taps


def kind(node: Node) -> str:
    """The op that a node calls, the same name for its in-place and default forms."""
    return op_name(node).removesuffix("_") if node.op == "call_function" else ""


def _end(node: Node) -> tuple[Node, tuple[Node, ...]]:
    while True:
        users = list(node.users)
        same = tuple(users)
        if not users or not all(_belongs(user, node) for user in users):
            return node, (node,)
        # Several users only where one value is quantized once and de-quantized for each reader.
        if len(users) > 1:
            if all("dequantize" in str(user.target) for user in users):
                return users[0], same
            return node, (node,)
        node = users[0]


def _belongs(user: Node, node: Node) -> bool:
    if not user.args or user.args[0] is not node:
        return False
    if user.op == "call_module":
        return str(user.target).startswith("activation_post_process")
    return kind(user) in _BEHIND or "quantize_per_tensor" in str(user.target)


def _weight_shape(node: Node) -> tuple[int, ...]:
    if kind(node) not in WEIGHTED or len(node.args) < 2 or not isinstance(node.args[1], Node):
        return ()
    value = node.args[1].meta.get("val")
    return tuple(int(n) for n in value.shape) if value is not None else ()


def pair(first: Sequence[Tap], second: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """The same layers of two graphs of one model, in the order of `first`.

    By name where both have one, else by order among those of one kind, when there are as many: folding loses names.
    """
    by_name = {tap.layer: tap for tap in second}
    second_by_op = {op: [tap for tap in second if tap.op == op] for op in {tap.op for tap in second}}
    first_by_op: dict[str, list[Tap]] = defaultdict(list)
    for tap in first:
        first_by_op[tap.op].append(tap)
    pairs = []
    for tap in first:
        same_kind = second_by_op.get(tap.op, [])
        if len(same_kind) == len(first_by_op[tap.op]):
            pairs.append((tap, same_kind[first_by_op[tap.op].index(tap)]))
        elif tap.layer in by_name and by_name[tap.layer].op == tap.op:
            pairs.append((tap, by_name[tap.layer]))
    return pairs


class Tapped(Interpreter):  # type: ignore[misc]
    """Runs a graph and keeps the taps' values. `clean` values replace them, once kept, for what comes after."""

    def __init__(self, module: GraphModule, taps: Mapping[str, Tap]) -> None:
        super().__init__(module, garbage_collect_values=True)
        self._keeps = {tap.node: layer for layer, tap in taps.items()}
        self._same = {node: layer for layer, tap in taps.items() for node in tap.same}
        self._clean: Mapping[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}

    def look(self, feeds: Sequence[Tensor], clean: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """One sample (batch 1) through the graph: layer → its output."""
        self._clean, self.values = clean or {}, {}
        with torch.no_grad():
            self.run(*feeds)
        return self.values

    def run_node(self, n: Node) -> object:
        """The node's value, or the clean one of the layer that ends here."""
        value = super().run_node(n)
        if n in self._keeps:
            # Ops that work in place would change what was kept.
            self.values[self._keeps[n]] = value.clone()
        clean = self._clean.get(self._same.get(n, ""))
        return value if clean is None else clean.clone()
