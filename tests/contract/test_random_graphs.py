"""60 fixed networks of the grammar: folding changes nothing, files answer as their graphs, refusals name the layer.

Everything of all of them (3 runtimes × 3 schemes) takes ten minutes: every network is folded, and a few go through each
lane, several side by side in one file. tests/tools/run_random_graphs.py runs more networks, and all lanes of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from random_graph_kinds import KINDS
from random_graph_ties import goes_either_way, nudged_answers
from random_graphs import BEFORE, EACH_KIND, JOINS, KIND_FIRST, SECOND_READER, grove, make

from pocketforge.rewrites import float_inputs, norms, passes, windows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from random_graph_lanes import FOLDS, LANES, RUNTIMES, failed_checks, run_together

pytestmark = pytest.mark.filterwarnings("ignore")

SEEDS = range(60)


def of_kind(name: str) -> int:
    return EACH_KIND + list(KINDS).index(name)


# Which networks go through a lane of files: all do what costs .1 s, a few what costs 1 to 5 s, of different kinds.
FILES: dict[str, tuple[int, ...]] = {
    "onnx fp32": (8, 16, 24, 40),
    # The last two are ops that a runtime lacks or takes for another.
    "executorch fp32": (33, of_kind("gelu tanh"), of_kind("adaptive_max_pool2d")),
    "tflite fp32": (36, of_kind("adaptive_max_pool2d"), of_kind("subtract from one")),
    "onnx static_int8": (9, 39, 49),
    "executorch static_int8": (12, 32),
    "tflite static_int8": (15, 35),
    "onnx dynamic_int8": (18,),
    "executorch dynamic_int8": (35,),
    "tflite dynamic_int8": (24,),
}


def test_every_lane_has_its_networks() -> None:
    assert {*FOLDS, *FILES} == set(LANES)


def test_kinds_that_need_two_values_come_first_too() -> None:
    for name in (*JOINS, *BEFORE):
        for seed in (KIND_FIRST, KIND_FIRST + SECOND_READER):
            assert name in make(seed + list(KINDS).index(name)).kinds


@pytest.mark.parametrize("first", SEEDS[::20], ids=lambda first: f"networks {first} to {first + 19}")
def test_folds(first: int, tmp_path: Path) -> None:
    check(range(first, first + 20), FOLDS, tmp_path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_files(runtime: str, tmp_path: Path) -> None:
    for lane, seeds in FILES.items():
        if lane.startswith(runtime):
            (folder := tmp_path / lane.replace(" ", "_")).mkdir()
            check(seeds, [lane], folder)


def check(seeds: Sequence[int], lanes: Sequence[str], folder: Path) -> None:
    """All networks of the seeds are right in the lanes, or refused by name."""
    found = list(run_together([make(seed) for seed in seeds], folder, lanes.__contains__))
    assert sorted((r.seed, r.lane) for r in found) == sorted((seed, lane) for seed in seeds for lane in lanes)
    bad = [f"{r.seed} {r.lane}: {r.status} {r.db} {r.message}" for r in found if r.status not in ("ok", "refused")]
    assert not bad, "\n".join(bad)
    # Of one kind each: what is refused is none of what the kind is there for.
    assert all(r.status == "ok" for r in found if r.seed >= EACH_KIND), found


def test_a_network_that_is_wrong_in_a_grove_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (each for each in passes.REWRITES if each.make is not norms.behind_shared_outputs)
    monkeypatch.setattr(passes, "REWRITES", tuple(kept))
    graphs = [make(3), make(of_kind("residual around the batch norm"))]
    found = list(run_together(graphs, tmp_path, ["fold"].__contains__))
    assert [(r.seed, r.status) for r in found] == [(graphs[0].seed, "ok"), (graphs[1].seed, "wrong")]


def test_a_file_may_be_as_far_from_its_graph_as_the_graph_from_itself() -> None:
    """A value between two levels, and a hundred times as much behind it: either level is right, none beside them."""

    class Between(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            levels = torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.5, 0, -128, 127, torch.int8)
            return 100 * torch.ops.quantized_decomposed.dequantize_per_tensor(levels, 0.5, 0, -128, 127, torch.int8)

    samples = torch.tensor([[1.25], [3.0]])
    program = torch.export.export(Between(), (samples[:1],))
    own = np.array([[100], [300]], np.float32)  # two and a half levels go to the even one
    twins = [outputs[0] for outputs in nudged_answers(program, [samples.numpy()])]
    assert goes_either_way(own + np.array([[50], [0]], np.float32), own, twins)
    assert goes_either_way(own + np.array([[50], [1]], np.float32), own, twins, allowed=1)
    for off in ([[0], [50]], [[100], [0]], [[50], [1]], [[np.nan], [0]]):
        assert not goes_either_way(own + np.array(off, np.float32), own, twins), off
    assert not goes_either_way(own[:, :0], own, twins)


def test_verify_fails_a_file_that_is_wrong_without_a_rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An average is quantized by its input's levels; a pooling has another size: in one file, each by its own check."""
    averaged, pooled = make(KIND_FIRST + list(KINDS).index("avg_pool2d")), make(of_kind("max_pool2d ceil") + len(KINDS))
    both = grove([averaged, pooled])
    assert failed_checks(both, "tflite static_int8", tmp_path, "with") == {}
    lost = (float_inputs.keep_floats_float, windows.one_axis_after_another)
    monkeypatch.setattr(passes, "REWRITES", tuple(each for each in passes.REWRITES if each.make not in lost))
    failed = failed_checks(both, "tflite static_int8", tmp_path, "without")
    assert any("graph" in name for name in failed) and any("outputs" in name for name in failed), failed


@pytest.mark.parametrize("size", [1, (2, 3), (7, 4), (None, 2)])
def test_adaptive_max_pools_of_any_size_are_written_out(size: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, x = torch.nn.AdaptiveMaxPool2d(size).eval(), torch.randn(1, 3, 7, 8)
    module = torch.export.export(net, (x,)).module()
    assert passes.rewrite(module, passes.TFLITE)
    assert not any("adaptive" in str(node.target) for node in module.graph.nodes)
    assert torch.equal(module(x), net(x))
