"""Quantization after every way of compressing, in one build from the command line, and what its report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, Done, in_process
from warm_server import in_stage

RECIPE = f"""
name = "after"

[model]
definition = "{ROOT}/tests/small_net.py"
weights = "weights.safetensors"

[data]
source = "digits"
eval_samples = 200
calibration_samples = 40

[data.preprocess]
scale = 16.0
mean = [0.5]
std = [0.5]

[[compress]]
type = "drop_layers"
count = 1

[[compress]]
type = "prune_channels"
ratio = 0.25

[[compress]]
type = "prune_unstructured"
n_m = [2, 4]

[[compress]]
type = "finetune"
epochs = 2
lr = 0.002

TARGETS
[[device]]
name = "host"
min_samples = 5
min_seconds = 0.0
"""
QUANTIZED = {
    "static": 'scheme = "static_int8"',
    "qnnpack": 'scheme = "static_int8", backend = "qnnpack", calibration = "mse"',
    "qat": 'scheme = "qat_int8", finetune = { epochs = 1, lr = 0.0005, distill = {} }',
    "weights": 'scheme = "weight_only_int8"',
}
RUNTIMES = {
    "static": ("tflite", "onnx"),
    "qnnpack": ("onnx",),
    "qat": ("tflite", "onnx"),
    "weights": ("onnx",),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("after")
    targets = "".join(
        f'[[target]]\nname = "{name}_{runtime}"\nruntime = "{runtime}"\nquantize = {{ {keys} }}\n\n'
        for name, keys in QUANTIZED.items()
        for runtime in RUNTIMES[name]
    )
    (folder / "recipe.toml").write_text(RECIPE.replace("TARGETS", targets), encoding="utf-8")
    in_stage("small_net.fit", folder)
    done = in_process("build", "recipe.toml", "--out", "out", cache=folder / "cache", cwd=folder)
    assert done.code == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done


@pytest.fixture(scope="module")
def report(built: tuple[Path, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built[0] / "out" / "report.json").read_text("utf-8"))
    return found


def test_every_file_works_after_pruning_dropping_and_two_of_four(report: dict[str, Any]) -> None:
    for target in report["targets"]:
        assert target["status"] == "built", target
        measured = target["facts"]["files"]["model"]
        assert measured["accuracy"]["accuracy_top1"] > 0.93, target["name"]
        assert measured["graph_argmax_agreement"] >= 0.99, target["name"]
    given, *_, last = report["compression"]["states"]
    assert report["reference"]["parameters"] == last["parameters"] < 0.8 * given["parameters"]


def test_the_same_quantization_tells_the_same_truth_in_two_runtimes(report: dict[str, Any]) -> None:
    pairs = {tuple(pair["targets"]): pair for pair in report["agreement"]}
    assert set(pairs) == {("static_tflite", "static_onnx"), ("qat_tflite", "qat_onnx")}
    for names, pair in pairs.items():
        assert pair["argmax_agreement"] >= 0.99 and pair["samples"] == 200, names
        assert pair["max_steps"] is not None and pair["max_steps"] <= 4, pair
        print(names, pair["max_steps"], pair["argmax_agreement"])


def test_the_report_says_what_int8_is_and_what_it_took(built: tuple[Path, Any], report: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text("utf-8"))
    jsonschema.validate(report, schema)
    numerics = {t["name"]: t["facts"]["numerics"] for t in report["targets"]}
    assert numerics["static_onnx"].startswith("static int8, per-channel weights, backend xnnpack")
    assert numerics["qnnpack_onnx"].startswith("static int8, per-tensor weights, backend qnnpack")
    assert "trained with fake quantization" in numerics["qat_onnx"]
    said = built[1].stdout
    assert all(words in said for words in ("the same quantization in two files", numerics["weights_onnx"]))
    for step in report["steps"]:
        assert step["peak_rss_bytes"] > 20e6, step


def test_zeros_of_two_of_four_outlive_training_with_fake_quantization(built: tuple[Path, Any]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(built[0] / "out" / "release" / "qat_onnx.onnx")
    weights = [numpy_helper.to_array(i) for i in model.graph.initializer]
    large = [w.astype(int) - 128 for w in weights if w.dtype == "uint8" and w.ndim == 4 and w.shape[1] % 4 == 0]
    assert large
    for weight in large:
        zeros = (weight == 0).mean()
        assert zeros >= 0.5, weight.shape


def test_a_build_explains_a_file_that_verify_rejects(built: tuple[Path, Any]) -> None:
    """Nothing is made again but the verify, by another limit, and what explains it."""
    folder = built[0]
    text = (folder / "recipe.toml").read_text("utf-8")
    target = 'name = "static_onnx"\nruntime = "onnx"\nquantize = { scheme = "static_int8" }\n'
    assert text.count(target) == 1
    (folder / "strict.toml").write_text(text.replace(target, f"{target}verify = {{ min_sqnr_db = 90 }}\n"), "utf-8")
    done = in_process("build", "strict.toml", "--out", "strict", cache=folder / "cache", cwd=folder)
    assert done.code == 1, done.stderr[-3000:]
    report = json.loads((folder / "strict" / "report.json").read_text("utf-8"))
    (found,) = (target for target in report["targets"] if target["status"] != "built")
    assert found["name"] == "static_onnx" and found["status"] == "wrong" and report["verdict"] == "FAIL"
    made = [(step["stage"], step["lane"]) for step in report["steps"] if step["status"] not in ("reused", "skipped")]
    assert made == [("verify", "static_onnx")], made
    why = found["facts"]["why"]
    assert "prepared" in why["sentence"] and why["sentence"] in done.stdout
    told = json.loads((folder / "strict" / why["path"]).read_text("utf-8"))
    assert told["sentence"] == why["sentence"]
    jsonschema.validate(
        report, json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text("utf-8"))
    )
