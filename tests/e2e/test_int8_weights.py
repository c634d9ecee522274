"""A build of an ONNX file for ARM alone: int8 weights, judged in emulated ARM kernels, here where sums are exact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from conftest import ROOT, in_process
from onnx import numpy_helper

from pocketforge.measure.saturation import not_judged_here

SCHEMA = json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text(encoding="utf-8"))
RECIPE = """\
name = "arm"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"
labels = "labels.txt"
eval_samples = 8
preprocess = { resize = [32, 32], color = "rgb", scale = 16.0, mean = [0.5], std = [0.5] }

[[target]]
name = "arm"
runtime = "onnx"
quantize = { scheme = "static_int8" }
onnx_weights = "int8"

[[device]]
via = "emulator"
profile = "pixel4"

[[budget]]
metric = "accuracy_top1"
limit = 0.9
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm")
    shutil.copytree(ROOT / "models" / "two_conv", folder / "model")
    (folder / "model" / "arm.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(shop: Path) -> Any:
    done = in_process("build", "arm.toml", "--out", "out", "--json", cache=shop / "cache", cwd=shop / "model")
    assert done.code == 0, done.stderr
    return done.json()


@pytest.fixture(scope="module")
def saturates() -> bool:
    """Whether this machine's kernels do."""
    return bool(not_judged_here())


def test_arm_kernels_judge_it_and_this_machine_only_where_it_can(report: Any, saturates: bool) -> None:
    (target,) = report["targets"]
    facts, checks = target["facts"], {check["name"] for check in target["checks"]}
    assert report["verdict"] == "PASS" and facts["onnx_weights"] == "int8"
    own = {f"{role}{name} on pixel4" for role in ("", "ort: ") for name in ("graph_sqnr_db", "accuracy_drop")}
    assert own <= checks
    said = [warning for warning in target["warnings"] if warning.startswith("not judged here: kernels saturate")]
    assert bool(said) == saturates and ("graph_sqnr_db" in checks) != saturates
    assert [row["device"] for row in facts["kernels"]] == (["pixel4"] if saturates else ["host", "pixel4"])
    assert facts["files"]["model"]["accuracy"]["accuracy_top1"] >= 0.9
    assert bool(facts["emulated"]["pixel4"]["verify"]["host"]["outputs"]) != saturates


def test_the_report_fits_its_schema(report: Any) -> None:
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(report)) == []


def test_weights_are_symmetric_int8_and_activations_uint8(report: Any, shop: Path) -> None:
    release = shop / "model" / "out" / "release"
    graph = onnx.load(release / "arm.onnx").graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    levels = [node.input for node in graph.node if node.op_type == "DequantizeLinear"]
    weights = [(constants[name], constants[zero]) for name, _, zero in levels if constants.get(name) is not None]
    int8 = [(values, zero) for values, zero in weights if values.dtype == np.int8]
    assert len(int8) >= 2 and all(not zero.any() and values.min() > -128 for values, zero in int8)
    assert not any(values.dtype == np.uint8 for values, _ in weights)
    assert {constants[n.input[2]].dtype for n in graph.node if n.op_type == "QuantizeLinear"} == {np.dtype(np.uint8)}
    assert json.loads((release / "arm.json").read_text(encoding="utf-8"))["export"]["onnx_weights"] == "int8"


def test_why_and_code_for_pages_say_what_cannot_be(report: Any, shop: Path, saturates: bool) -> None:
    words: dict[str, Any] = {"cache": shop / "cache", "cwd": shop / "model"}
    page = in_process("package", "out/release/arm.onnx", "--for", "web", "--out", shop / "page", **words)
    assert page.code == 2 and "int8 weights, for apps on ARM alone" in page.stderr and not (shop / "page").exists()
    asked = in_process("why", "arm", "arm.toml", "--samples", "2", **words)
    assert asked.code == (3 if saturates else 0)
    assert ("kernels saturate" in asked.stderr) == saturates
