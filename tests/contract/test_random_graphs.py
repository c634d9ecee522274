"""60 fixed networks of the grammar: folding changes nothing, files answer as their graphs, refusals name the layer.

Everything of all of them (3 runtimes × 3 schemes) takes a quarter of an hour: every network is folded, and a few go
through each lane. tests/tools/run_random_graphs.py runs more networks, and all lanes of each.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from random_graph_kinds import KINDS
from random_graphs import EACH_KIND, KIND_FIRST, make

from pocketforge.rewrites import float_inputs, passes, windows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from random_graph_lanes import FOLDS, LANES, LaneResult, failed_checks, run_lanes

pytestmark = pytest.mark.filterwarnings("ignore")

SEEDS = range(60)
# Which of them go through a lane: all do what costs .3 s, a few what costs 1 to 5 s, chosen for different kinds.
FILES = {
    "onnx fp32": (8, 16, 24, 40),
    "executorch fp32": (33,),
    "tflite fp32": (36,),
    "onnx static_int8": (9, 39, 49),
    "executorch static_int8": (12, 32),
    "tflite static_int8": (15, 35),
    "onnx dynamic_int8": (18,),
    "executorch dynamic_int8": (35,),
    "tflite dynamic_int8": (24,),
}


def lanes_of(seed: int) -> tuple[str, ...]:
    return (*FOLDS, *(lane for lane, seeds in FILES.items() if seed in seeds))


def test_every_lane_has_its_networks() -> None:
    assert {lane for seed in SEEDS for lane in lanes_of(seed)} == set(LANES)


@pytest.mark.parametrize("first", SEEDS[::10], ids=lambda first: f"networks {first} to {first + 9}")
def test_networks(first: int, tmp_path: Path) -> None:
    found: list[LaneResult] = []
    for seed in range(first, first + 10):
        (folder := tmp_path / str(seed)).mkdir()
        found += run_lanes(make(seed), folder, lanes_of(seed).__contains__)
    assert len(found) == sum(len(lanes_of(seed)) for seed in range(first, first + 10))
    bad = [f"{r.seed} {r.lane}: {r.status} {r.db} {r.message}" for r in found if r.status not in ("ok", "refused")]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("kind", "lanes"),
    [
        ("gelu tanh", "executorch fp32"),
        ("adaptive_max_pool2d", "executorch fp32"),
        ("adaptive_max_pool2d", "tflite fp32"),
        ("subtract from one", "tflite fp32"),
    ],
)
def test_ops_that_a_runtime_lacks_or_takes_for_another(kind: str, lanes: str, tmp_path: Path) -> None:
    (found,) = run_lanes(make(EACH_KIND + list(KINDS).index(kind)), tmp_path, [lanes].__contains__)
    assert found.status == "ok" and found.db is not None and found.db >= 100, found


WRONG = {
    ("avg_pool2d", KIND_FIRST): (float_inputs.keep_floats_float, "static_int8", "graph"),
    ("max_pool2d ceil", EACH_KIND + len(KINDS)): (windows.one_axis_after_another, "fp32", "outputs"),
}


@pytest.mark.parametrize(("kind", "first"), WRONG, ids=str)
def test_verify_fails_a_file_that_is_wrong_without_its_rewrite(
    kind: str, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite, scheme, word = WRONG[kind, first]
    graph = make(first + list(KINDS).index(kind))
    (tmp_path / "with").mkdir()
    assert failed_checks(graph, f"tflite {scheme}", tmp_path / "with") == {}
    monkeypatch.setattr(passes, "REWRITES", tuple(each for each in passes.REWRITES if each.make is not rewrite))
    (tmp_path / "without").mkdir()
    failed = failed_checks(graph, f"tflite {scheme}", tmp_path / "without")
    assert any(word in name for name in failed), failed


@pytest.mark.parametrize("size", [1, (2, 3), (7, 4), (None, 2)])
def test_adaptive_max_pools_of_any_size_are_written_out(size: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, x = torch.nn.AdaptiveMaxPool2d(size).eval(), torch.randn(1, 3, 7, 8)
    module = torch.export.export(net, (x,)).module()
    assert passes.rewrite(module, passes.TFLITE)
    assert not any("adaptive" in str(node.target) for node in module.graph.nodes)
    assert torch.equal(module(x), net(x))
