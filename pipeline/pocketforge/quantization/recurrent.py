"""Recurrent layers, which no quantizer here makes int8."""

from __future__ import annotations

import operator

import torch
from torch.export import ExportedProgram

from pocketforge.errors import ModelError
from pocketforge.rewrites.graph import op_name, where

_LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
# Layers over sequences, and the cells that a model calls step by step.
RECURRENT = frozenset({*_LAYERS, *(f"{name}_cell" for name in _LAYERS)})
MOST_IN_FLOAT = 0.5  # of the weights: more, and the file is a float file by another name


def check_recurrent(program: ExportedProgram, scheme: str) -> None:
    """Raises ModelError where most weights are in recurrent layers, which no quantizer here makes int8.

    Where they are the smaller part, they stay in float as other layers may.
    """
    module = program.module()
    sizes = {node: weights_of(node, module) for node in module.graph.nodes if op_name(node) in RECURRENT}
    everything = sum(parameter.numel() for parameter in module.parameters())
    if sum(sizes.values()) > MOST_IN_FLOAT * everything:
        layers = ", ".join(where(node) for node in sizes)
        raise ModelError(
            f"{scheme} would leave {sum(sizes.values()) / everything:.0%} of the weights in float: {layers}; recurrent "
            "layers have no int8 form here",
            'scheme = "fp32", or "fp16" (half the bytes; onnx and tflite); or write the cell with linear layers, which '
            "have: pocketforge docs inputs",
        )


def weights_of(node: torch.fx.Node, module: torch.fx.GraphModule) -> int:
    """How many a recurrent layer or cell has; biases count."""
    read = [given for given in node.all_input_nodes if given.op == "get_attr"]
    return sum(int(operator.attrgetter(str(given.target))(module).numel()) for given in read)
