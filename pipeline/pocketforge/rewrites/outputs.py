"""Outputs of the model that are one value: given twice, or once more behind an op that changes nothing."""

from __future__ import annotations

from torch.fx import Node

from pocketforge.rewrites.graph import Editor, full_arguments, is_constant, op_name

_COPIES = ("clone", "alias", "lift_fresh_copy")
_VIEWS = ("view", "reshape", "slice", "select", "permute", "transpose", "expand", "squeeze", "unsqueeze", "detach")


def without_copies(editor: Editor) -> None:
    """A value that is given twice as itself, not as its copy: XNNPACK's partition would hold the copy alone and fail.

    A copy that something is written into, or whose origin is, stays.
    """
    output = next(node for node in editor.nodes() if node.op == "output")
    written = {_storage(node.args[0]) for node in editor.nodes() if _in_place(node)}
    for given in list(dict.fromkeys(output.all_input_nodes)):
        source = given
        while _changes_nothing(source) and isinstance(source.args[0], Node):
            source = source.args[0]
        if source is not given and source.op == "call_function" and not written & {_storage(given), _storage(source)}:
            output.replace_input_with(given, source)
            editor.changes += 1


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
