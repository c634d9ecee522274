"""What is rewritten when ExecuTorch has taken the graph apart and before XNNPACK takes its parts.

Only then softplus and the like are the several ops that each read a value, and what was written into a tensor is a
tensor of its own.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult

from pocketforge.rewrites.graph import Editor, first_input, op_name
from pocketforge.rewrites.quantized import one_reader_each

# Between a layer and what de-quantizes its levels.
_KEEP_SHAPES = ("relu", "hardtanh", "clamp", "quantize_per_tensor", "dequantize_per_tensor")


def plain(graph: GraphModule) -> PassResult:
    """The graph with one reader for each value that is de-quantized, and without copies. Changes it in place."""
    editor = Editor(graph)
    _without_copies(editor)
    _sizes_of_levels(editor)
    one_reader_each(editor)
    graph.recompile()
    return PassResult(graph, bool(editor.changes))


def _without_copies(editor: Editor) -> None:
    """XNNPACK computes nothing for a copy, and fails where its partition would give both."""
    for node in editor.nodes():
        source = node.args[0] if op_name(node) == "_clone_dim_order" else None
        if not isinstance(source, Node) or _order(source) != _order(node):
            continue
        if source.op == "call_function" or not any(user.op == "output" for user in node.users):
            editor.replace(node, source)


def _sizes_of_levels(editor: Editor) -> None:
    """Sizes that vary are asked for behind a layer's levels: XNNPACK takes an int8 layer only where its levels alone
    read it, and nobody else takes its int8 weights.
    """
    for size in editor.nodes():
        value = size.args[0] if op_name(size) == "sym_size" else None
        chain: list[Node] = []
        while isinstance(value, Node) and op_name(value) != "dequantize_per_tensor":
            readers = [user for user in value.users if op_name(user) != "sym_size"]
            value = readers[0] if len(readers) == 1 and readers[0].all_input_nodes == [value] else None
            if op_name(value) not in _KEEP_SHAPES:
                value = None
            chain += [value] if isinstance(value, Node) else []
        if value is None or not chain:
            continue
        place = first_input(size)
        for node in chain:  # before what is computed with the size
            place.append(node)
            place = node
        editor.arguments(size, [value, *size.args[1:]])


def _order(node: Node) -> tuple[int, ...]:
    """In which order the axes lie in memory."""
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor)
    return tuple(value.dim_order())
