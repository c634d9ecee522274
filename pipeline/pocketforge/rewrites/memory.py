"""Whose memory a value lies in, and what is written into it: what a copy may not be taken away from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch.fx import Node

from pocketforge.rewrites.graph import full_arguments, op_name

# What may give its input itself, or a view of it, although its schema says nothing of that: made of other ops.
_ITSELF = (
    *("getitem", "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "type_as", "sum_to_size"),
    *("einsum", "conj_physical", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_tensors", "meshgrid"),
    *("cartesian_prod", "to_dense"),
)


def is_new(node: Node) -> bool:
    """Whether an op makes a tensor of its own, no view of another and not another itself."""
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    return op_name(node) not in _ITSELF and bool(returns) and all(each.alias_info is None for each in returns)


def memories(value: object) -> set[Node]:
    """The values whose memory a value may lie in: itself, or those behind all views."""
    if not isinstance(value, Node):
        return set()
    found: set[Node] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node.op != "call_function" or is_new(node):
            found.add(node)
        else:  # an op that views or writes takes what it views or writes first
            waiting += node.all_input_nodes if op_name(node) in _ITSELF else node.all_input_nodes[:1]
    return found


class Writes:
    """What is written into by which node of a graph, and when."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._order = {node: place for place, node in enumerate(nodes)}
        self._into = [
            (place, memory)
            for node, place in self._order.items()
            for value in _written(node)
            for memory in memories(value)
        ]

    def meet(self, *values: Node, after: Node | None = None) -> bool:
        """Whether anything is written into the memory of any of these values; after: behind this node alone."""
        start = -1 if after is None else self._order[after]
        of_values = set[Node]().union(*map(memories, values))
        return any(memory in of_values for place, memory in self._into if place > start)


def _written(node: Node) -> Iterator[object]:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return
    for argument, value in zip(schema.arguments, full_arguments(node), strict=True):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from value if isinstance(value, list | tuple) else (value,)
