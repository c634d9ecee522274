"""The exercises of every tutorial, as shipped: each recipe is built by the command line, and its effect is looked for.

Targets that say nothing more about the exercise are left out, so that each build takes seconds, not a minute.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from conftest import ROOT, Done, in_process
from onnx import numpy_helper

from pocketforge.model.surgery import KeepChannels, load_checkpoint
from pocketforge.model.weights import load_weights

MODELS = ("mlp_digits", "two_conv", "teacher_student")


@dataclass(frozen=True)
class Tutorial:
    """One shipped recipe, built."""

    out: Path
    done: Done

    @property
    def report(self) -> Any:
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))

    @property
    def states(self) -> Any:
        return self.report["compression"]["states"]

    def module(self) -> torch.nn.Module:
        return load_checkpoint(self.out / "checkpoint").module

    def file(self, name: str) -> Path:
        return self.out / "release" / name

    def measured(self, metric: str) -> list[float]:
        """One for each target."""
        found = [m["value"] for m in self.report["measurements"] if m["metric"] == metric]
        assert found
        return found


def only(text: str, targets: tuple[str, ...]) -> str:
    """The recipe with these targets, and the budgets that are left."""
    known = [t["name"] for t in tomllib.loads(text)["target"]]
    assert set(targets) <= set(known)
    gone = set(known) - set(targets)
    tables = re.split(r"(?m)^(?=\[\[)", text)
    return "".join(
        t for t in tables if not (t.startswith(("[[target]]", "[[budget]]")) and any(f'"{n}"' in t for n in gone))
    )


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tutorial]:
    """Builds `models/<path>` with some of its targets, once."""
    folder = tmp_path_factory.mktemp("tutorials")
    for name in MODELS:  # all, as the student's definition lies beside its own folder
        shutil.copytree(ROOT / "models" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    built: dict[str, Tutorial] = {}

    def build(path: str, *targets: str) -> Tutorial:
        if path not in built:
            recipe, out = folder / path, folder / "out" / path.removesuffix(".toml")
            recipe.write_text(only(recipe.read_text(encoding="utf-8"), targets), encoding="utf-8")
            done = in_process("build", recipe, "--out", out, "--progress", "none", cache=folder / "cache", cwd=folder)
            assert done.code == 0, done.stdout + done.stderr
            built[path] = Tutorial(out, done)
        return built[path]

    return build


# (i) an MLP 784-256-10, its first layer l1-pruned by 50 %, then dynamic int8


@pytest.fixture(scope="module")
def mlp(shipped: Callable[..., Tutorial]) -> Tutorial:
    return shipped("mlp_digits/recipe.toml", "mlp_digits_onnx_int8", "mlp_digits_tflite_int8")


def original_fc1() -> torch.Tensor:
    from pocketforge.model.load import build_model

    module = build_model("model.py", {}, lambda path: ROOT / "models" / "mlp_digits" / path)
    load_weights(module, ROOT / "models" / "mlp_digits" / "weights.safetensors")
    return module.fc1.weight.detach()


def test_exactly_half_of_fc1_is_zero_and_nothing_else(mlp):
    module = mlp.module()
    assert int((module.fc1.weight == 0).sum()) == 784 * 256 // 2
    assert int((module.fc2.weight == 0).sum()) == 0
    # The smaller half, by magnitude, of the weights as given: training after it moved none of them away from zero.
    given = original_fc1().abs().flatten()
    pruned = (module.fc1.weight == 0).flatten()
    assert given[pruned].max() <= given[~pruned].min()
    assert not torch.equal(module.fc1.weight.flatten()[~pruned], original_fc1().flatten()[~pruned]), "nothing trained"


def test_the_zeros_are_in_the_int8_weights_of_the_onnx_file(mlp):
    graph = onnx.load(mlp.file("mlp_digits_onnx_int8.onnx")).graph
    kinds = [n.op_type for n in graph.node]
    assert kinds.count("MatMulInteger") == 2 and "Gemm" not in kinds and "MatMul" not in kinds
    # Dynamic: ranges are found at run time. A static file has scales of activations as constants.
    assert kinds.count("DynamicQuantizeLinear") == 2 and "QuantizeLinear" not in kinds
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    first = next(n for n in graph.node if n.op_type == "MatMulInteger")
    weight, zero_point = constants[first.input[1]], constants[first.input[3]]
    assert weight.shape == (784, 256) and weight.dtype == np.uint8
    check_zeros(mlp, (weight.astype(np.int32) - zero_point).T)


def test_the_zeros_are_in_the_int8_weights_of_the_tflite_file(mlp):
    interpreter = Interpreter(model_path=str(mlp.file("mlp_digits_tflite_int8.tflite")))
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    (fc1,) = [d for d in tensors.values() if tuple(d["shape"]) == (256, 784)]
    assert fc1["dtype"] == np.int8 and not fc1["quantization_parameters"]["zero_points"].any()
    check_zeros(mlp, interpreter.get_tensor(fc1["index"]))
    # Hybrid kernels: float in, int8 weights, float out.
    floats = [d for d in tensors.values() if tuple(d["shape"]) in ((1, 784), (1, 256), (1, 10))]
    assert floats and all(d["dtype"] == np.float32 for d in floats)


def check_zeros(tutorial: Tutorial, weight: np.ndarray) -> None:
    """Every pruned weight of fc1 is 0 in the file; of those kept, only what int8 rounds to 0 is."""
    kept = tutorial.module().fc1.weight.detach().numpy()
    assert not weight[kept == 0].any()
    step = np.abs(kept).max(axis=1, keepdims=True) / 127
    assert (np.abs(kept)[weight == 0] <= 0.51 * np.broadcast_to(step, kept.shape)[weight == 0]).all()
    assert np.count_nonzero(weight) > 0.3 * weight.size


def test_pruning_and_int8_cost_less_than_a_hundredth(mlp):
    given = mlp.states[0]["accuracy_top1"]
    assert given > 0.97
    assert min(mlp.measured("accuracy_top1")) >= given - 0.01


def test_the_report_says_honestly_what_zeros_buy(mlp):
    given, pruned, tuned = mlp.states
    assert pruned["label"] == "prune_unstructured" and pruned["zeros"] == tuned["zeros"] == 784 * 128
    # A dense file is as large as before, in the checkpoint and in every runtime …
    assert abs(pruned["weights_bytes"] - given["weights_bytes"]) < 64
    for runtime in ("onnx", "tflite"):
        before, after = (s["runtimes"][runtime] for s in (given, pruned))
        assert abs(after["size_bytes"] - before["size_bytes"]) < 64
        assert after["gzip_bytes"] < 0.75 * before["gzip_bytes"]
        # … and its time is measured, whatever it is.
        assert after["latency_ms"] > 0 and after["ratio_low"] <= after["ratio"] <= after["ratio_high"]
    # … and sparse storage holds half the floats and a bit for each.
    weights = 784 * 256
    assert given["weights_bytes"] - tuned["sparse_bytes"] == pytest.approx(4 * weights / 2 - weights / 8, abs=2048)
    assert given["sparse_bytes"] >= 0.99 * given["weights_bytes"]
    # What makes the files small is int8.
    assert max(mlp.measured("size_bytes")) < 0.3 * given["weights_bytes"]


# (ii) two convolutions: half of the first one's channels, or no second one


@pytest.fixture(scope="module")
def half(shipped: Callable[..., Tutorial]) -> Tutorial:
    return shipped("two_conv/half_conv1.toml", "two_conv_half_conv1_onnx_fp32")


@pytest.fixture(scope="module")
def without(shipped: Callable[..., Tutorial]) -> Tutorial:
    return shipped("two_conv/without_conv2.toml", "two_conv_without_conv2_onnx_fp32")


def convolutions(path: Path) -> list[tuple[int, ...]]:
    graph = onnx.load(path).graph
    constants = {i.name: tuple(i.dims) for i in graph.initializer}
    return [constants[n.input[1]] for n in graph.node if n.op_type == "Conv"]


def test_conv2_lost_the_inputs_that_conv1_no_longer_gives(half):
    module = half.module()
    wanted = [(32, 3, 3, 3), (128, 32, 3, 3)]
    assert [tuple(module.conv1.weight.shape), tuple(module.conv2.weight.shape)] == wanted
    assert tuple(module.conv1.bias.shape) == (32,) and tuple(module.fc.weight.shape) == (10, 128 * 8 * 8)
    assert convolutions(half.file("two_conv_half_conv1_onnx_fp32.onnx")) == wanted
    assert half.states[1]["macs"] == 10_403_840 and half.states[0]["macs"] == 20_725_760


def test_the_strongest_half_of_conv1_stays(half):
    checkpoint = load_checkpoint(half.out / "checkpoint")
    (edit,) = checkpoint.edits
    assert isinstance(edit, KeepChannels)
    from pocketforge.model.load import build_model

    given = build_model("model.py", {}, lambda path: ROOT / "models" / "two_conv" / path)
    load_weights(given, ROOT / "models" / "two_conv" / "weights.safetensors")
    kept = set(edit.tensors["conv1.weight"][0])
    assert kept == set(edit.tensors["conv2.weight"][1]) == set(edit.tensors["conv1.bias"][0])
    assert kept != set(range(32)), "the first half of the tensor"


def test_conv2_is_gone_and_the_classifier_fitted_again(without):
    module = without.module()
    assert tuple(module.fc.weight.shape) == (10, 64 * 8 * 8)
    assert [tuple(p.shape) for p in module.parameters()] == [(64, 3, 3, 3), (64,), (10, 4096), (10,)]
    assert convolutions(without.file("two_conv_without_conv2_onnx_fp32.onnx")) == [(64, 3, 3, 3)]
    given, dropped, _ = without.states
    assert dropped["macs"] == 1_769_472 + 40_960
    # A classifier drawn at random would be right one time in ten.
    assert dropped["accuracy_top1"] > 0.8 and given["accuracy_top1"] > 0.97


def test_fine_tuning_brings_both_rivals_back(half, without):
    for tutorial, least in ((half, 0.97), (without, 0.95)):
        _given, changed, tuned = (s["accuracy_top1"] for s in tutorial.states)
        assert tuned >= max(changed - 0.01, least)
        assert tutorial.measured("accuracy_top1")[0] == pytest.approx(tuned, abs=0.002)
    # Both began as the same model.
    assert half.states[0]["accuracy_top1"] == without.states[0]["accuracy_top1"]
    assert without.states[1]["macs"] < 0.2 * half.states[1]["macs"]


# (iii) a teacher of 64/128 channels, a student of 32/64


@pytest.fixture(scope="module")
def student(shipped: Callable[..., Tutorial]) -> Tutorial:
    return shipped("teacher_student/recipe.toml", "student_onnx_int8")


def test_the_teacher_is_in_the_students_loss(student):
    (step,) = student.report["compression"]["steps"]
    train = step["train"]
    assert step["label"] == "finetune + distill"
    assert train["teacher"]["definition"] == "../two_conv/model.py" and train["teacher"]["accuracy_top1"] > 0.95
    distill = train["settings"]["distill"]
    for epoch in train["history"]:
        weighted = distill["alpha"] * epoch["teacher_loss"] + (1 - distill["alpha"]) * epoch["label_loss"]
        assert epoch["teacher_loss"] > 0 and epoch["loss"] == pytest.approx(weighted, rel=1e-3)
    # It learns from the teacher: the distance to its answers falls.
    assert train["history"][-1]["teacher_loss"] < 0.2 * train["history"][0]["teacher_loss"]


def test_the_student_is_small_and_good(student):
    module = student.module()
    assert [tuple(module.conv1.weight.shape), tuple(module.conv2.weight.shape)] == [(32, 1, 3, 3), (64, 32, 3, 3)]
    untrained, trained = student.states
    assert untrained["accuracy_top1"] < 0.4 and trained["accuracy_top1"] >= 0.96
    assert student.measured("accuracy_top1")[0] >= 0.96
    assert student.measured("parameters")[0] < 0.32 * 95_000
