"""A scheme from outside (tests/plugins/scheme): built for real, and caught where its weights are not what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_packages import HEAD as RECIPE
from plugin_packages import installed
from warm_server import in_process

from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.runtimes.describe import describe

MODEL = """\
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
"""
TARGET = """\
[[target]]
name = "NAME"
runtime = "onnx"
quantize = { scheme = "NAME" }
"""


def test_a_scheme_from_outside_is_built_and_its_weights_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("weight_only_int6", "forgetful_int6")
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + "".join(TARGET.replace("NAME", name) for name in names), encoding="utf-8")
    out = tmp_path / "out"
    with installed("scheme", tmp_path / "site", monkeypatch):
        done = in_process("build", recipe, "--out", out, "--keep-failed", cache=tmp_path / "cache", cwd=tmp_path)
    assert done.code == 1, done.stderr
    right, wrong = json.loads((out / "report.json").read_text(encoding="utf-8"))["targets"]
    assert (right["status"], wrong["status"]) == ("built", "wrong"), done.stderr
    assert right["facts"]["numerics"] == "weights in 6 bits (per-channel), all else computed in float32"
    failed = {check["name"]: check["found"] for check in wrong["checks"] if not check["passed"]}
    assert set(failed) == {"int8 weights", "ort: int8 weights"}, "nothing else sees it"
    assert all(found.startswith("0.0% (") and "float32" in found for found in failed.values())
    file = describe(next((out / "failed").glob("weight_only_int6*.onnx")))
    assert {weight.dtype for weight in file.weights if len(weight.shape) > 1} == {"int8"}


def test_its_row_is_asked_by_every_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = RECIPE + TARGET.replace("NAME", "weight_only_int6")
    with pytest.raises(RecipeError, match="unknown value 'weight_only_int6'; did you mean 'weight_only_int8'"):
        parse_recipe(text)
    with installed("scheme", tmp_path / "site", monkeypatch):
        assert parse_recipe(text).targets[0].quantize.info.libraries == ("pocketforge-six-bits",)
        with pytest.raises(RecipeError, match="scheme weight_only_int6 is refused for runtime executorch"):
            parse_recipe(text.replace('"onnx"', '"executorch"'))
        with pytest.raises(ValueError, match=r"per_channel is for scheme .*weight_only_int6"):
            Quantize("codebook", per_channel=True)
    assert "weight_only_int6" not in SCHEMES.ours


def test_its_package_s_version_is_part_of_the_keys_of_what_it_makes_and_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row has the limits, too: a new version of the package may judge otherwise."""
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    text = RECIPE + TARGET.replace("NAME", "weight_only_int6")
    keys = []
    for version in ("0.1", "0.2"):
        with installed("scheme", tmp_path / version, monkeypatch, version=version):
            recipe = parse_recipe(text, folder=str(tmp_path))
            (lane,) = make_plan(recipe, gather(recipe)).lanes
        keys.append((lane.quantize, lane.export, lane.verify))
    assert not set(keys[0]) & set(keys[1])
