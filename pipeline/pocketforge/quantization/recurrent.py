"""Recurrent layers: LSTMs whose weights a runtime multiplies in int8, and those that no quantizer here makes int8."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pocketforge.errors import ModelError
from pocketforge.outcomes.recurrent import MOST_IN_FLOAT, refusal
from pocketforge.quantization.range_search import SMALLEST_SCALE
from pocketforge.quantization.weighted import Layer, constant_before
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.rewrites.graph import Editor, full_arguments, op_name, overload, where

_LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
# Layers over sequences, and the cells that a model calls step by step.
RECURRENT = frozenset({*_LAYERS, *(f"{name}_cell" for name in _LAYERS)})
_ROUNDED = "pocketforge_rounded"  # in a node's meta


def check_recurrent(program: ExportedProgram, scheme: str) -> None:
    """Raises ModelError where most weights are in recurrent layers that the scheme makes int8 in no runtime.

    Where they are the smaller part, they stay in float as other layers may. What one runtime has kernels for and
    another has not is refused as that one's file is made.
    """
    module = program.module()
    dynamic = SCHEMES[scheme].family == "dynamic"
    sizes = {
        node: weights_of(node, module)
        for node in module.graph.nodes
        if op_name(node) in RECURRENT and not (dynamic and can_be_dynamic(node))
    }
    share = sum(sizes.values()) / max(1, sum(parameter.numel() for parameter in module.parameters()))
    if share > MOST_IN_FLOAT:
        raise ModelError(*refusal(scheme, share, [where(node) for node in sizes]))


def recurrent_layers(graph: torch.fx.Graph) -> list[Layer]:
    """Those that can be dynamic int8, as an override names them."""
    return [Layer(name_of(node), op_name(node), node.name) for node in graph.nodes if can_be_dynamic(node)]


def can_be_dynamic(node: Node) -> bool:
    """Whether it is an LSTM over a sequence of one length, without projections (`proj_size`)."""
    if op_name(node) != "lstm" or overload(node) != "input":
        return False
    _, _, weights, with_bias, layers, _, _, both_ways, _ = full_arguments(node)
    assert isinstance(weights, list | tuple) and isinstance(layers, int)
    return len(weights) == layers * (2 if both_ways else 1) * (4 if with_bias else 2)


def round_weights(graph: GraphModule, schemes: Mapping[str, str], quantize: Quantize) -> None:
    """Give LSTMs of dynamic_int8 the weights that their files multiply, in place: on symmetric levels, a scale for each
    row of a gate or for each matrix. Biases and the layer's arithmetic stay float: a runtime's own operator quantizes
    what the layer reads, and its state at each step."""
    editor = Editor(graph)
    limit = 2 ** (quantize.weight_bits - 1) - 1
    for node in editor.nodes():
        if not can_be_dynamic(node) or schemes.get(name_of(node)) != "dynamic_int8":
            continue
        args = full_arguments(node)
        assert isinstance(args[2], list | tuple)
        args[2] = [_rounded(editor, weight, node, limit, quantize) for weight in args[2]]
        editor.arguments(node, args)
        node.meta[_ROUNDED] = True
    if editor.changes:
        graph.graph.eliminate_dead_code()
        graph.recompile()


def _rounded(editor: Editor, weight: object, node: Node, limit: int, quantize: Quantize) -> Node:
    assert isinstance(weight, Node)
    value = editor.value(weight).detach()
    if value.dim() != 2:
        return weight
    largest = value.abs().amax(1, keepdim=True) if quantize.by_channel else value.abs().amax()
    scale = (largest / limit).clamp(min=SMALLEST_SCALE)
    return editor.constant(str(weight.target), (value / scale).round() * scale, node)


def is_rounded(node: Node) -> bool:
    """Whether `round_weights` gave an LSTM its levels."""
    return bool(node.meta.get(_ROUNDED))


def name_of(node: Node) -> str:
    """The module that a recurrent layer or cell is of, by its first weight's name; the node's own without one."""
    read = next(_constants(node), None)
    return str(read.target).rpartition(".")[0] or str(node.name) if read is not None else str(node.name)


def _constants(node: Node) -> Iterator[Node]:
    for given in node.all_input_nodes:
        constant = constant_before(given)
        if constant is not None:
            yield constant


def matrices_of(node: Node, module: GraphModule) -> int:
    """How many weights an LSTM has that are multiplied: biases do not count."""
    return sum(value.numel() for value in _values(node, module) if value.dim() == 2)


def weights_of(node: Node, module: GraphModule) -> int:
    """How many a recurrent layer or cell, or an embedding, has; biases count."""
    return sum(value.numel() for value in _values(node, module))


def _values(node: Node, module: GraphModule) -> list[torch.Tensor]:
    read = [given for given in node.all_input_nodes if given.op == "get_attr"]
    return [operator.attrgetter(str(given.target))(module) for given in read]
