"""What a model writes into a part of a tensor (`y[:, :1] = x`, `y[..., 0] += 1`) as a new tensor.

A quantizer observes a tensor where it is made, before it is written to, and layers that read it then get the values of
before (0.3 dB); XNNPACK's partition of the copies is dead in int8.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import Editor, full_arguments, has_open_sizes, op_name, overload, shape_of
from pocketforge.rewrites.memory import is_new, memories

aten = torch.ops.aten
# Beside copy_; each without its `_` gives what is written, of what was there.
_COMPUTED = ("fill_", "add_", "sub_", "mul_", "div_")
_VIEWS = {"slice": aten.slice_scatter.default, "select": aten.select_scatter.default}


def as_new_tensors(editor: Editor) -> None:
    """Only where nothing else sees a part of the tensor from before."""
    for node in editor.nodes():
        views = _views(node) if op_name(node) in ("copy_", *_COMPUTED) else []
        whole = views[-1].args[0] if views else None
        if not isinstance(whole, Node) or not is_new(whole) or has_open_sizes(node):
            continue
        if any(user not in (node, *views) for view in views for user in view.users):
            continue
        order = {each: place for place, each in enumerate(editor.nodes())}
        before = (each for each in order if order[each] < order[node] and each not in (whole, *views))
        others = [each for each in before if whole in memories(each)]  # views of it, and views of these
        if any(order[user] > order[node] for each in others for user in each.users):
            continue
        value = part = _written(editor, node)
        for view in views:
            value = editor.call(_VIEWS[op_name(view)], view.args[0], value, *full_arguments(view)[1:], like=node)
        node.replace_all_uses_with(part)
        for user in list(whole.users):
            if order.get(user, -1) > order[node]:
                user.replace_input_with(whole, value)
        editor.module.graph.erase_node(node)


def _views(write: Node) -> list[Node]:
    """The views through which a tensor is written to, the innermost first."""
    found: list[Node] = []
    node = write.args[0]
    while isinstance(node, Node) and op_name(node) in _VIEWS:
        found.append(node)
        node = node.args[0]
    return found


def _written(editor: Editor, write: Node) -> Node:
    if op_name(write) != "copy_":
        out_of_place = getattr(aten, op_name(write).removesuffix("_"))
        return editor.call(getattr(out_of_place, overload(write)), *write.args, like=write)
    place, value = write.args[:2]
    assert isinstance(place, Node) and isinstance(value, Node)
    if shape_of(value) != shape_of(place):
        value = editor.call(aten.expand.default, value, list(shape_of(place)), like=write)
    return value
