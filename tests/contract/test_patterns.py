"""Patterns that are traced once give the graphs that patterns traced anew give, for calibration and for training."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from pocketforge.recipe.quantize import Quantize  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils
    from torchao.quantization.pt2e import qat_utils, quantize_pt2e

    from pocketforge.quantization import patterns, pt2e
    from pocketforge.quantization.qat import TrainingGraph

pytestmark = pytest.mark.filterwarnings("ignore")
SAMPLES = np.random.default_rng(0).normal(size=(20, 1, 12, 12)).astype(np.float32)


class Net(nn.Module):
    """Convolutions with and without a bias, with each form of ReLU behind their batch norm, and with none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.first_norm = nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.third, self.third_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu_(self.second_norm(self.second(x)))
        return self.head(self.third_norm(self.third(x)).mean((2, 3)))


def calibrated() -> list[Any]:
    program = torch.export.export(Net().eval(), (torch.zeros(1, 1, 12, 12),))
    return list(pt2e.quantize_graph(program, [SAMPLES], Quantize("static_int8", calibration="minmax")))


def trained() -> list[Any]:
    graphs, _ = TrainingGraph(Net().eval(), [(torch.from_numpy(SAMPLES),)], Quantize("qat_int8")).convert()
    return list(graphs)


@pytest.mark.parametrize("quantized", [calibrated, trained])
def test_the_graphs_are_those_of_patterns_traced_anew(quantized, monkeypatch):
    first, again = quantized(), quantized()
    for module in (xnnpack_quantizer_utils, qat_utils):
        monkeypatch.setattr(module, patterns.NAME, getattr(module, patterns.NAME).__wrapped__)
    monkeypatch.setattr(quantize_pt2e, "_fold_conv_bn_qat", quantize_pt2e._fold_conv_bn_qat.__wrapped__)
    for anew, *ours in zip(quantized(), first, again, strict=True):
        for graph in ours:
            assert str(graph.graph) == str(anew.graph) and graph.code == anew.code
            mine, wanted = graph.state_dict(), anew.state_dict()
            assert mine.keys() == wanted.keys() and all(torch.equal(mine[name], wanted[name]) for name in wanted)


def test_what_training_adds_is_not_looked_for_behind_no_quotient(monkeypatch):
    """A norm with no layer before it stays in a calibrated graph: 96 patterns were traced for it, 17 s."""
    net = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    program = torch.export.export(net, (torch.zeros(1, 1, 12, 12),))

    def graphs() -> list[str]:
        pair = pt2e.quantize_graph(program, [SAMPLES[:2]], Quantize("static_int8", calibration="minmax"))
        assert all("batch_norm" in graph.code for graph in pair)
        return [str(graph.graph) for graph in pair]

    # What is left of torchao's function where no pattern matches.
    searched: list[object] = []

    def no_match(*_: Any, **__: Any) -> list[Any]:
        searched.append(1)
        return []

    monkeypatch.setattr(qat_utils, patterns.NAME, lambda *_, **__: None)
    monkeypatch.setattr(qat_utils, "replace_pattern_with_filters", no_match)
    ours = graphs()
    assert not searched
    monkeypatch.setattr(quantize_pt2e, "_fold_conv_bn_qat", quantize_pt2e._fold_conv_bn_qat.__wrapped__)
    assert graphs() == ours and len(searched) == 2 * 4 * 12


class Everything(nn.Module):
    """What each of XNNPACK's passes that look for an operator finds something in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.conv, self.behind = nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.slopes, self.lines, self.head = nn.PReLU(2), nn.Conv1d(1, 2, 3), nn.Linear(36, 3)

    def forward(self, x):
        maps = nn.functional.max_pool2d(self.slopes(self.behind(self.conv(self.norm(x)))), 2)
        wide = nn.functional.interpolate(maps, size=(4, 4), mode="bilinear", align_corners=False)
        joined = torch.cat([wide, wide + 1, wide + 2, wide + 3, wide + 4, wide + 5], 1)
        layers = self.lines(x.flatten(2)).relu(), self.head(x.flatten(1))
        return joined, torch.max(wide, 3, keepdim=True)[0], x.flatten(2).softmax(2), *layers


def test_xnnpack_s_passes_leave_alone_what_has_nothing_for_them_and_the_file_is_the_same(monkeypatch):
    """Left out, each would have given its graph back as it was; patterns are then not traced either."""
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from pocketforge.runtimes import executorch_patterns

    def lowered(net: nn.Module, side: int) -> bytes:
        program = torch.export.export(net.eval(), (torch.zeros(1, 1, side, side),))
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)

    def never() -> Any:
        pytest.fail("patterns were traced for a graph in which none can be")

    found: dict[str, bool] = {}

    def untouched(program: Any, made: Any) -> Any:
        looks = executorch_patterns.LOOKS.get(type(made), lambda _: True)
        finds = looks(program.graph_module)
        found[type(made).__name__] = found.get(type(made).__name__, False) or finds  # in any of a net's parts
        before = program.graph_module.code
        after = executorch_patterns.transform.__wrapped__(program, made)
        assert finds or (after.graph_module.code, str(after.graph)) == (before, str(program.graph)), made
        return after

    def finding() -> set[str]:
        kinds = {kind.__name__ for kind in executorch_patterns.LOOKS}
        assert kinds <= found.keys()
        seen = {kind for kind in kinds if found[kind]}
        found.clear()
        return seen

    plain, everything = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), Everything()
    bare = nn.Sequential(nn.Sigmoid(), nn.Tanh())
    with monkeypatch.context() as patched:
        patched.setattr(sdpa, "get_graphs", never)
        patched.setattr(bilinear_2d, "get_graphs_dict", never)
        ours, ours_of_bare = lowered(plain, 4), lowered(bare, 4)
    ours_of_everything = lowered(everything, 6)
    monkeypatch.setattr("executorch.backends.xnnpack._passes._transform", untouched)
    assert lowered(bare, 4) == ours_of_bare and not finding()
    # What is left of a convolution, its activation, a linear layer and the copies around them.
    assert lowered(plain, 4) == ours
    assert finding() == {"FuseActivationPass", "ConvertToLinearPass", "RemoveRedundantCopyPass"}
    assert lowered(everything, 6) == ours_of_everything
    # Nobody notes anything on a model's nodes here, and XNNPACK's partitioner keeps a PReLU under its other name.
    kinds = {kind.__name__ for kind in executorch_patterns.LOOKS}
    assert kinds - finding() == {"PropagateCustomMetaPass", "PReLUReshapePass"}
    for patterns_of, kind in ((sdpa.get_graphs, "ConvertToSDPAPass"), (bilinear_2d.get_graphs_dict, "ConvertToUps")):
        patterns = list(patterns_of())
        (looks,) = [looks for each, looks in executorch_patterns.LOOKS.items() if each.__name__.startswith(kind)]
        assert patterns and all(map(looks, patterns))


def wrapped(function: Any) -> Any:
    return pytest.importorskip("torchao.quantization.pt2e").WrapperModule(function)


def test_only_equal_patterns_are_the_same():
    traced: list[Any] = []

    def trace(pattern: Any, example_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        traced.append(pattern)
        return nn.Identity()

    def pattern(operation: Any, inplace: Any) -> Any:
        return wrapped(lambda x: operation(x, inplace))

    once = patterns.trace_once(trace)
    one, two = torch.zeros(1, 3), torch.zeros(1, 1, 3)
    results = [once(pattern(torch.add, True), (one,)) for _ in range(2)]
    assert len(traced) == 1 and results[0] is not results[1]
    once(pattern(torch.add, True), (one + 1,))  # other values, the same pattern
    assert len(traced) == 1
    for changed in (
        lambda: once(pattern(torch.mul, True), (one,)),
        lambda: once(pattern(torch.add, False), (one,)),
        lambda: once(pattern(torch.add, 1), (one,)),
        lambda: once(pattern(torch.add, True), (two,)),
        lambda: once(pattern(torch.add, True), (one,), True),
        lambda: once(pattern(torch.add, True), (one,), scale=one),
        lambda: once(wrapped(lambda x: x), (one,)),
    ):
        before = len(traced)
        changed()
        changed()
        assert len(traced) == before + 1
    # What cannot be told apart is traced each time.
    for odd in (wrapped(lambda x, seen=[]: x), nn.Identity()):
        before = len(traced)
        once(odd, (one,))
        once(odd, (one,))
        assert len(traced) == before + 2
