"""A graph's code is compiled when somebody runs it, and is then what torch would have compiled when it wrote it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.fx import GraphModule, graph_module, symbolic_trace  # noqa: E402

from pocketforge.rewrites import graph_code  # noqa: E402

X = torch.tensor([-2.0, 0.5, 3.0])


class Net(nn.Module):
    def forward(self, x, by: float = 2.0):
        return torch.relu(x) * by


@pytest.fixture(params=["ours", "torch's"])
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphModule]:
    """The same is true with torch's own: what is expected here is no invention."""
    if request.param == "torch's":
        monkeypatch.setattr(graph_module, "_forward_from_src", graph_code.TORCHS)
    return symbolic_trace(Net())


def stands_for_forward(module: GraphModule) -> Any:
    return vars(type(module))["forward"]


def test_only_what_is_run_is_compiled():
    module = symbolic_trace(Net())
    copies = [GraphModule(module, module.graph) for _ in range(3)]
    assert {type(stands_for_forward(each)) for each in (module, *copies)} == {graph_code.Forward}
    assert copies[1](X).tolist() == [0, 1, 6]
    assert [type(stands_for_forward(each)) for each in copies] == [graph_code.Forward, FunctionType, graph_code.Forward]


def test_a_graph_runs_as_it_was_when_its_code_was_written(traced):
    """Who edits a graph and does not say so has the old function, whether it ran before or not."""
    (relu,) = (node for node in traced.graph.nodes if node.target is torch.relu)
    relu.target = torch.neg
    assert traced(X).tolist() == [0, 1, 6]
    traced.recompile()
    relu.target = torch.abs
    assert traced(X).tolist() == [4, -1, -6] and "neg" in traced.code
    traced.recompile()
    assert traced(X).tolist() == [4, 1, 6]


def test_it_is_a_function_to_whoever_looks(traced):
    assert str(inspect.signature(traced.forward)) == "(x, by: 'float' = 2.0)"
    forward = type(traced).forward
    assert isinstance(forward, FunctionType) and forward(traced, X, by=1.0).tolist() == [0, 0.5, 3]
    assert traced.forward.__func__ is forward and inspect.getsource(forward) in traced.code
    again = copy.deepcopy(traced)
    assert again.code == traced.code and again(X).tolist() == [0, 1, 6]


def test_names_of_files_are_counted_as_torch_counts_them(traced):
    """They are in tracebacks and in the notes of nodes that are traced from such code."""
    before = graph_module._loader.next_id
    first, second = (GraphModule(traced, traced.graph) for _ in range(2))
    second(X)
    named = [each.forward.__code__.co_filename.partition(" ")[0] for each in (first, second)]
    assert named == [f"<eval_with_key>.{before}", f"<eval_with_key>.{before + 1}"]


def test_what_fails_in_it_is_shown_with_its_code(traced, capsys):
    with pytest.raises(TypeError):
        traced("no tensor")
    told = capsys.readouterr().err
    assert "Call using an FX-traced Module, line 5" in told and "relu = torch.relu(x)" in told


def test_such_a_graph_is_traced_and_compiled_on(traced):
    for strict in (False, True):
        program = torch.export.export(traced, (X,), strict=strict)
        assert program.module()(X).tolist() == [0, 1, 6]


def test_without_its_class_it_is_that_function_too():
    """torch's compiler asks the result for its code, where it stands in for the same place."""
    forward = graph_module._forward_from_src("def forward(self, x):\n    return -x\n", {})
    assert forward.__code__.co_name == "forward" and forward.__get__(X, torch.Tensor)(X).tolist() == [2, -0.5, -3]


def test_a_torch_that_does_so_elsewhere_is_refused(monkeypatch):
    monkeypatch.setattr(GraphModule, "recompile", lambda self: None)
    with pytest.raises(ImportError, match=r"rewrites/graph_code\.py"):
        graph_code.take_over()
