"""Outputs that a model ends with shares in: of softmax or sigmoid, which a loss of scores takes once more."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from pocketforge.model.structure import leaves
from pocketforge.outcomes.reference import SharesOf
from pocketforge.rewrites.graph import op_name, shape_of, where

# What leaves values as they are, and only lays them out otherwise.
_MOVING = frozenset(
    {
        *("view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous", "clone"),
        *("alias", "detach", "to", "_to_copy", "dropout", "movedim"),
    }
)
_NEAR = 1e-3


def outputs_of_shares(program: ExportedProgram) -> dict[int, SharesOf]:
    """Position of an output → the layer that makes shares of it, where one does last.

    Log softmax is none: a softmax of it gives the same shares, and so does any loss of scores.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    found = {}
    for position, name in enumerate(program.graph_signature.user_outputs):
        node = nodes.get(str(name))
        while node is not None and op_name(node) in _MOVING and isinstance(node.args[0], Node):
            node = node.args[0]
        kind = op_name(node).strip("_")
        if node is None or kind not in ("softmax", "sigmoid"):
            continue
        shape = shape_of(node)
        axis = node.args[1] if kind == "softmax" and len(node.args) > 1 else None
        found[position] = SharesOf(kind, where(node), shape[axis] if isinstance(axis, int) and shape else 0)
    return found


def while_training(module: nn.Module, example: Sequence[Tensor], found: Mapping[int, SharesOf]) -> dict[int, SharesOf]:
    """Those outputs that are shares in training mode too: many models end in softmax only when they are not trained.

    example: inputs of batch 1. A model that does not run so stays as it was found: its training says why.
    """
    if not found:
        return {}
    trained = copy.deepcopy(module).train()
    two = [torch.cat([tensor, tensor]) for tensor in example]  # batch norm wants several values
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            answers = [leaf.value for leaf in leaves(trained(*two))]
        except Exception:
            return dict(found)
    return {position: each for position, each in found.items() if _are_shares(answers, position, each)}


def _are_shares(answers: Sequence[Tensor], position: int, each: SharesOf) -> bool:
    if position >= len(answers):  # it answers otherwise while it trains
        return False
    values = answers[position]
    if not values.is_floating_point() or bool(((values < 0) | (values > 1)).any()):
        return False
    axes = [axis for axis, length in enumerate(values.shape) if axis and length == each.classes]
    return each.kind == "sigmoid" or any(bool(((values.sum(axis) - 1).abs() < _NEAR).all()) for axis in axes)
