"""LSTMs with projections (`proj_size`): ONNX has no such layer, and the exporter writes one that no runtime takes.

It gives ONNX's LSTM the cell's size for the state's: ONNX Runtime ends with "initial_c must have shape …", and several
layers or both ways are no valid file. Written out step by step they are matrix products, as in the other runtimes.
"""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pocketforge.errors import StageFailed
from pocketforge.rewrites.graph import full_arguments, op_name, overload, where


def has_projections(node: Node) -> bool:
    """Whether it is an LSTM over a sequence whose state is smaller than its cell."""
    if op_name(node) != "lstm" or overload(node) != "input":
        return False
    _, _, weights, with_bias, layers, _, _, both_ways, _ = full_arguments(node)
    assert isinstance(weights, list | tuple) and isinstance(layers, int)
    return len(weights) > layers * (2 if both_ways else 1) * (4 if with_bias else 2)


def in_steps(module: GraphModule, example: tuple[torch.Tensor, ...], *, varying: bool) -> GraphModule | ExportedProgram:
    """The module itself without such layers; else a graph in which all LSTMs are steps.

    varying: whether sizes of inputs vary; raises StageFailed then, as steps are written out.
    """
    found = [node for node in module.graph.nodes if has_projections(node)]
    if not found:
        return module
    if varying:
        raise StageFailed(
            f"{where(found[0])} has projections (proj_size), and in ONNX no form for sizes that vary",
            "give the target sizes = [[…], […]]: a file of fixed shapes for each; or project by a linear layer behind",
        )
    steps = torch.export.default_decompositions()[torch.ops.aten.lstm.input]
    return torch.export.export(module, example).run_decompositions({torch.ops.aten.lstm.input: steps})
