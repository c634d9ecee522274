"""Weights: each layer reads one of its own, and reads it, rather than computing it anew in each inference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from pocketforge.rewrites.graph import CONVOLUTIONS, TRANSPOSED, Editor, is_constant, op_name

# Which arguments of an op are weight and bias.
WEIGHTS = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED, "linear"), (1, 2)),
    "addmm": (2, 0),
    "mm": (1,),
    "matmul": (1,),
    "bmm": (1,),
    "embedding": (0,),
    "prelu": (1,),
}


def compute_once(editor: Editor) -> None:
    """Weights that are computed from constants alone (weight norm, a transposed or scaled weight), or from nothing
    (`torch.ones(…)` as a filter), become constants.

    Only those of layers: another table that is computed may be large, and is no one's weight.
    """
    known: dict[Node, bool] = {}
    for node in editor.nodes():
        for position in WEIGHTS.get(op_name(node), ()):
            source = node.args[position] if len(node.args) > position else None
            if not isinstance(source, Node) or is_constant(source) or not is_of_constants(source, known):
                continue
            origin = _origin(source)
            value = _compute(editor, source)
            owner = f"{str(origin.target).rpartition('.')[0]}." if origin else f"{node.name}_"
            new = editor.constant(f"{owner}weight".lstrip("."), value, node)
            node.replace_input_with(source, new)
    editor.module.graph.eliminate_dead_code()


def give_each_its_own(editor: Editor) -> None:
    """Each layer reads a weight and a bias of its own: a copy, where a parameter has several readers.

    A quantizer annotates a weight once, and XNNPACK's delegate takes one call's bias for another's in int8. The first
    layer that reads a parameter keeps its name.
    """
    for reads in _readers(editor):
        _copy(editor, reads)


def give_folded_ones_their_own(editor: Editor) -> None:
    """The same, but only where a batch norm is folded into one of the layers: what folds changes it for all readers.

    Or where one is a one-dimensional convolution: XNNPACK's pass for these changes the weight, once for each reader.
    """
    for reads in _readers(editor):
        if any(op_name(node) == "conv1d" or "batch_norm" in map(op_name, node.users) for node, _ in reads):
            _copy(editor, reads)


def give_transposed_ones_their_own(editor: Editor) -> None:
    """The same, where a transposed convolution is one of them (a decoder with its encoder's weights).

    XNNPACK's delegate stores a parameter once, in the order of axes that its first reader has: noise for the other, or
    a file that does not load.
    """
    for reads in _readers(editor):
        if any(op_name(node) in TRANSPOSED for node, _ in reads):
            _copy(editor, reads)


def _readers(editor: Editor) -> list[list[tuple[Node, Node]]]:
    """Of each parameter that several nodes read: who does, and the node that reads the parameter for it."""
    readers: dict[str, list[tuple[Node, Node]]] = {}
    for node in editor.nodes():
        for source in dict.fromkeys(node.all_input_nodes):
            if is_constant(source):
                readers.setdefault(str(source.target), []).append((node, source))
    return [reads for reads in readers.values() if len(reads) > 1]


def _copy(editor: Editor, found: list[tuple[Node, Node]]) -> None:
    layers = [each for each in found if _reads_as_weight(*each)]
    others = [each for each in found if each not in layers]
    if not layers:
        return
    name, value = str(layers[0][1].target), editor.value(layers[0][1]).detach()
    for node, source in layers[1:]:
        node.replace_input_with(source, editor.constant(name, value.clone(), node))
    if others:
        copy = editor.constant(name, value.clone(), others[0][0])
        for node, source in others:
            node.replace_input_with(source, copy)


def _reads_as_weight(node: Node, source: Node) -> bool:
    positions = WEIGHTS.get(op_name(node), ())
    return any(len(node.args) > position and node.args[position] is source for position in positions)


def is_of_constants(node: Node, known: dict[Node, bool]) -> bool:
    """Whether a node depends on constants only, and on no chance. known: answers of before, to which are added."""
    if node not in known:
        known[node] = node.op == "get_attr" or (
            node.op == "call_function"
            and torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())
            and all(is_of_constants(each, known) for each in node.all_input_nodes)
        )
    return known[node]


def constant_value(node: Node) -> Tensor | None:
    """What a node gives that is computed from constants alone, as a learnt exponent is; None of others."""
    owner = node.graph.owning_module
    return _compute(Editor(owner), node) if owner is not None and is_of_constants(node, {}) else None


def _origin(node: Node) -> Node | None:
    """The first constant of those that it is computed from; None where it is computed from none."""
    return node if is_constant(node) else next(filter(None, map(_origin, node.all_input_nodes)), None)


def _compute(editor: Editor, node: Node) -> Tensor:
    if is_constant(node):
        return editor.value(node)
    args, kwargs = map_arg((node.args, node.kwargs), lambda each: _compute(editor, each))
    with torch.no_grad():
        value: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
    return value
