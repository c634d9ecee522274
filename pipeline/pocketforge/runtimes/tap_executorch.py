"""A graph lowered for ExecuTorch as the exporter does it, run in Python before the runtime's own kernels take over.

A .pte file holds XNNPACK's packed form and no layer's output can be read from it. So layers are looked at in a second
file, of the same graph with their outputs as further outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

import pocketforge.runtimes.executorch_patterns  # noqa: F401  leaves passes out


def lower(program: ExportedProgram, file: Path | None = None) -> Callable[..., Sequence[torch.Tensor] | torch.Tensor]:
    """The edge program as a function of the inputs: what was given to XNNPACK runs as PyTorch's ops.

    file: where to write the .pte, if it is wanted too.
    """
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    # to_executorch() changes the program that it is called on.
    traced = copy.deepcopy(edge.exported_program()) if file is not None else edge.exported_program()
    if file is not None:
        file.write_bytes(edge.to_executorch().buffer)
    module = traced.module()
    assert isinstance(module, GraphModule)
    for name, child in list(module.named_children()):
        if isinstance(child, LoweredBackendModule):
            setattr(module, name, _Delegate(child.original_module.module()))
    for node in module.graph.nodes:
        if node.target is executorch_call_delegate:
            node.op, node.target, node.args = "call_module", str(node.args[0].target), node.args[1:]
    module.recompile()
    run: Callable[..., Sequence[torch.Tensor] | torch.Tensor] = module
    return run


class _Delegate(torch.nn.Module):  # type: ignore[misc]
    """What a delegate was made from; ExecuTorch's own Python stand-in unpacks it anew at each call."""

    def __init__(self, original: torch.nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """A delegate gives a list, whatever the number of its outputs."""
        return list(self.original(*inputs))


def with_outputs(module: GraphModule, nodes: Sequence[Node], example: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """The graph with the values of `nodes` as its outputs, traced again."""
    names = [node.name for node in nodes]
    changed = copy.deepcopy(module)
    by_name = {node.name: node for node in changed.graph.nodes}
    output = next(node for node in changed.graph.nodes if node.op == "output")
    output.args = (tuple(by_name[name] for name in names),)
    # Inputs and outputs are then plain tuples, not the structure that the model was traced with.
    changed.graph.set_codegen(torch.fx.graph.CodeGen())
    changed.graph.eliminate_dead_code()
    changed.recompile()
    return torch.export.export(changed, example, strict=False)
