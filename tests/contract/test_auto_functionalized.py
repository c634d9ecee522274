"""ExecuTorch's pass that undoes `auto_functionalized` does as torch's own, without what that one imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from warm_server import in_stage

from pocketforge.rewrites import auto_functionalized as ours

pytestmark = pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other


class Plain(nn.Module):
    """With a copy onto itself, and what nobody reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.relu(x)
        y = x + 1
        return torch.ops.aten.copy(y, y).mul(2)


class Mutates(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch.ops.pocketforge_tests.double_(y)
        return y * 3


def exported(net: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(net.eval(), (torch.ones(2, 3),), strict=False)


def after(remove: Callable[[Any], Any], program: Any) -> tuple[str, Any]:
    left = remove(program)
    return str(left.graph), left.graph_signature


def test_of_a_graph_without_such_nodes_the_same_is_left() -> None:
    def copied() -> torch.export.ExportedProgram:
        program = exported(Plain())
        (node,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.copy.default)
        node.target = torch.ops.aten.copy_.default
        return program

    assert str(copied().graph).count("aten.copy_") == str(copied().graph).count("aten.relu") == 1
    graph, signature = after(ours.unsafe_remove_auto_functionalized_pass, copied())
    assert (graph, signature) == after(ours.torchs().unsafe_remove_auto_functionalized_pass, copied())
    assert "copy_" not in graph and "relu" not in graph and "mul" in graph


def test_of_a_graph_with_such_a_node_torchs_own_is_called() -> None:
    with torch.library._scoped_library("pocketforge_tests", "FRAGMENT") as library:
        library.define("double_(Tensor(a!) x) -> ()")
        library.impl("double_", lambda x: x.mul_(2) and None, "CompositeExplicitAutograd")
        library.impl("double_", lambda x: None, "Meta")
        made = exported(Mutates()).run_decompositions({})
        assert any(node.target in ours.NODES for node in made.graph.nodes), made.graph
        left = ours.unsafe_remove_auto_functionalized_pass(made)
        assert not any(node.target in ours.NODES for node in left.graph.nodes)
        assert "double_" in str(left.graph)


def test_builds_quantize_and_export_without_torchs_compiler_of_kernels() -> None:
    in_stage("warm_patterns.without_inductor")
