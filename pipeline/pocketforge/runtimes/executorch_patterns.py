"""XNNPACK's passes are made on graphs that have what they look for, and on no others.

Each of its passes gives a graph that is traced anew and verified twice, changed or not: 12 of 17 look for operators
that many graphs lack, a fifth to a third of an export. Two, for attention and bilinear upsampling, also trace and lower
a small graph for each of their patterns first, once in a process: two thirds of a process's first export. What a graph
without the operator gets from them is itself, as the pass before left it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from executorch.backends.xnnpack import _passes as passes  # noqa: PLC2701 - no public name
from torch.export import ExportedProgram
from torch.fx import GraphModule

Looks = Callable[[GraphModule], bool]


def has(*operators: str) -> Looks:
    """Whether a node calls an operator with one of these in its name."""

    def looks(graph_module: GraphModule) -> bool:
        names = [str(node.target) for node in graph_module.graph.nodes if node.op == "call_function"]
        return any(operator in name for name in names for operator in operators)

    return looks


def has_convolved_lines(graph_module: GraphModule) -> bool:
    """Whether a convolution is in one dimension: its weight tells, as it tells that pass."""
    return any(
        "aten.convolution." in str(node.target) and node.args[1].meta["val"].dim() == 3
        for node in graph_module.graph.nodes
        if node.op == "call_function"
    )


def has_notes(graph_module: GraphModule) -> bool:
    """Whether a node has what its author noted on it: torch keeps that under this name."""
    return any("custom" in node.meta for node in graph_module.graph.nodes)


# A pass → whether it finds something to do in a graph. The others are made on every graph.
LOOKS: Mapping[type, Looks] = {
    passes.ConvertToUpsampleBilinear2d: has("aten.upsample_bilinear2d."),
    passes.ConvertToSDPAPass: has("aten._softmax."),
    passes.ConvertToLinearPass: has("aten.addmm.", "aten.mm.", "aten.bmm.", "aten.linear."),
    passes.PropagateCustomMetaPass: has_notes,
    passes.FuseBatchNormPass: has("batch_norm"),
    passes.DecomposeBatchNorm: has("batch_norm"),
    passes.FuseActivationPass: has("aten.relu.", "aten.hardtanh."),
    passes.DecomposeConcatenate: has("aten.cat."),
    passes.RemoveGetItemPass: has("aten.max_pool2d_with_indices.", "aten.max.dim"),
    passes.Conv1dUnsqueezePass: has_convolved_lines,
    passes.PReLUReshapePass: has("aten._prelu_kernel."),
    passes.RemoveRedundantCopyPass: has("aten._to_copy."),
}
_transform = passes._transform


@functools.wraps(_transform)
def transform(program: ExportedProgram, made: Any) -> ExportedProgram:
    """XNNPACK's own, for a pass that finds something to do."""
    looks = LOOKS.get(type(made))
    return _transform(program, made) if looks is None or looks(program.graph_module) else program


passes._transform = transform
