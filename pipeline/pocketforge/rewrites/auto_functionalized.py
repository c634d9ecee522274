"""ExecuTorch without torch's compiler of kernels, of which it takes one pass, for nodes that graphs here have not.

`executorch.exir` imports `torch.export._remove_auto_functionalized_pass`, and that a part of `torch._inductor`: 530
modules, .7 CPU s and 38 MB of each build that quantizes to int8 or exports to ExecuTorch. This module is found in its
place, if it is imported first: the pass does as torch's where a graph has no such node, and is torch's where one has.

A torch without the pass fails here, at import.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import torch
from torch._higher_order_ops import auto_functionalize  # noqa: PLC2701 - no public name
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

NAME = "torch.export._remove_auto_functionalized_pass"
NODES = (auto_functionalize.auto_functionalized, auto_functionalize.auto_functionalized_v2)

_spec = importlib.util.find_spec(NAME)
if _spec is None or _spec.loader is None:
    raise ImportError(f"this torch has no {NAME}", name=NAME)


def torchs() -> ModuleType:
    """torch's own module, with all that it imports."""
    assert _spec is not None and _spec.loader is not None
    module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(module)
    return module


def unsafe_remove_auto_functionalized_pass(program: ExportedProgram) -> ExportedProgram:
    """As torch's: copies of a value onto itself go, and what nobody reads."""
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    if any(node.target in NODES for graph in graphs for node in graph.nodes):
        changed: ExportedProgram = torchs().unsafe_remove_auto_functionalized_pass(program)
        return changed
    with program.graph_module._set_replace_hook(program.graph_signature.get_replace_hook()):
        remove_self_clone(program.graph)
        program.graph.eliminate_dead_code()
    return program


def remove_self_clone(graph: Graph) -> None:
    for node in graph.nodes:
        if node.target is torch.ops.aten.copy_.default and node.args[0] == node.args[1]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


if NAME not in sys.modules:
    _stand_in = ModuleType(NAME, __doc__)
    _stand_in.__spec__ = _spec
    vars(_stand_in).update(
        unsafe_remove_auto_functionalized_pass=unsafe_remove_auto_functionalized_pass,
        remove_self_clone=remove_self_clone,
    )
    sys.modules[NAME] = _stand_in
