"""XNNPACK's passes look for attention and bilinear upsampling only in graphs that have a softmax or an upsampling.

They trace and lower a small graph for each pattern before they look, once in a process: two thirds of the first export
of a process, whatever the model. In a graph without the operator that all of a pattern's graphs have, nothing matches;
the rest of the pass is made as it is where nothing matched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from executorch.backends.xnnpack._passes.convert_to_sdpa import ConvertToSDPAPass  # noqa: PLC2701 - no public name
from executorch.backends.xnnpack._passes.convert_to_upsample_bilinear2d import (  # noqa: PLC2701 - no public name
    ConvertToUpsampleBilinear2d,
)
from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa
from torch.fx import GraphModule

# A pass, the function that gives its patterns, what that gives where there is none, and the operator of all of them.
PASSES: tuple[tuple[Any, ModuleType, str, Callable[[], object], str], ...] = (
    (ConvertToSDPAPass, sdpa, "get_graphs", list, "aten._softmax."),
    (ConvertToUpsampleBilinear2d, bilinear_2d, "get_graphs_dict", dict, "aten.upsample_bilinear2d."),
)


def has(graph_module: GraphModule, operator: str) -> bool:
    """Whether a node calls an operator with this in its name."""
    return any(operator in str(node.target) for node in graph_module.graph.nodes if node.op == "call_function")


def _look_only_where(kind: Any, patterns: ModuleType, function: str, nothing: Callable[[], object], op: str) -> None:
    call = kind.call

    @functools.wraps(call)
    def quick(self: Any, graph_module: GraphModule) -> Any:
        if has(graph_module, op):
            return call(self, graph_module)
        get = getattr(patterns, function)
        setattr(patterns, function, nothing)
        try:
            return call(self, graph_module)
        finally:
            setattr(patterns, function, get)

    kind.call = quick


for _pass in PASSES:
    _look_only_where(*_pass)
