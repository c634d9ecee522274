"""Copies that change nothing: of a value that is given twice, and of what is read by others."""

from __future__ import annotations

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import Editor, full_arguments, is_constant, op_name

_COPIES = ("clone", "alias", "lift_fresh_copy")
_VIEWS = ("view", "reshape", "slice", "select", "permute", "transpose", "expand", "squeeze", "unsqueeze", "detach")


def without_copies(editor: Editor) -> None:
    """Values as themselves, not as their copies: XNNPACK's partition would hold the copy alone of one that is given
    twice and fail; and a copy of an int8 map that is read in two ways has its axes in another order than the runtime is
    told, so that the file is dead.

    A copy that something is written into, or whose origin is, stays; so does one that brings a tensor into one piece
    for a layer, as views ask for that.
    """
    output = next(node for node in editor.nodes() if node.op == "output")
    written = {_storage(node.args[0]) for node in editor.nodes() if _in_place(node)}
    for copy in editor.nodes():
        source = copy.args[0] if _changes_nothing(copy) else None
        if not isinstance(source, Node) or written & {_storage(copy), _storage(source)} or not _alike(copy, source):
            continue
        for user in [user for user in copy.users if user is not output]:
            user.replace_input_with(copy, source)
            editor.changes += 1
        if not copy.users:
            editor.module.graph.erase_node(copy)
    for given in list(dict.fromkeys(output.all_input_nodes)):
        source = given
        while _changes_nothing(source) and isinstance(source.args[0], Node):
            source = source.args[0]
        if source is not given and source.op == "call_function" and not written & {_storage(given), _storage(source)}:
            output.replace_input_with(given, source)
            editor.changes += 1


def _alike(copy: Node, source: Node) -> bool:
    """Whether both lie in memory in the same way."""
    values = [node.meta.get("val") for node in (copy, source)]
    return all(isinstance(value, torch.Tensor) for value in values) and values[0].stride() == values[1].stride()


def _changes_nothing(node: Node) -> bool:
    if op_name(node) == "dropout":
        return not full_arguments(node)[2]
    return op_name(node) in _COPIES


def _in_place(node: Node) -> bool:
    return op_name(node).endswith("_") and node.op == "call_function"


def _storage(node: object) -> object:
    """The value whose memory a node gives: behind views the one that they look at."""
    while isinstance(node, Node) and op_name(node).rstrip("_") in _VIEWS and not is_constant(node):
        node = node.args[0]
    return node
