"""What is rewritten when ExecuTorch has taken the graph apart and before XNNPACK takes its parts.

Only then softplus and the like are the several ops that each read a value, and what was written into a tensor is a
tensor of its own.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult

from pocketforge.rewrites.graph import Editor, op_name
from pocketforge.rewrites.quantized import one_reader_each


def plain(graph: GraphModule) -> PassResult:
    """The graph with one reader for each value that is de-quantized, and without copies. Changes it in place."""
    editor = Editor(graph)
    _without_copies(editor)
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


def _order(node: Node) -> tuple[int, ...]:
    """In which order the axes lie in memory."""
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor)
    return tuple(value.dim_order())
