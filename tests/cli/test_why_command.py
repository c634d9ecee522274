"""`pocketforge why`: what is wrong is said before anything runs; a good target; a build's wrong target explained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from warm_server import in_process, warm_stages

from pocketforge.commands.why import explain_failures
from pocketforge.data.dataset import open_recipe
from pocketforge.facts.gather import gather
from pocketforge.outcomes.why import Explained, FormFound, LayerFound
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.why import with_why
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.store import Store
from pocketforge.run.walk import run_plan
from pocketforge.specs.why import WhySpec
from pocketforge.why.words import sentence, stage_rows

MODEL = """\
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 10))
"""
RECIPE = """\
name = "tiny"

[model]
definition = "model.py"

[data]
source = "digits"
eval_fraction = 0.7
eval_samples = 60
calibration_samples = 20

[[target]]
name = "tiny_onnx"
runtime = "onnx"
# More than there can be (an SQNR ends at 200 dB): its verify says no, and there is nothing to be found.
verify = { min_sqnr_db = 201.0 }

[[target]]
name = "tiny_int8"
runtime = "onnx"
quantize = { scheme = "static_int8" }
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def test_an_unknown_target_is_said_before_anything_runs(cli, cache, tiny):
    done = cli("why", "tiny_onyx", tiny)
    assert (done.code, done.stdout) == (2, "")
    assert "the recipe has no target 'tiny_onyx'; did you mean 'tiny_onnx'?" in done.stderr
    assert "targets: tiny_onnx, tiny_int8" in done.stderr
    assert cli("why").code == 2
    assert cli("why", "tiny_onnx", tiny, "--samples", "0").code == 2
    assert cli("why", "tiny_onnx", tiny.with_name("other.toml")).code == 2
    assert not cache.exists() and not (tiny.parent / "build").exists()


def test_the_step_reads_what_the_lane_reads_and_is_in_no_build(tiny):
    recipe = load_recipe(tiny)
    facts = gather(recipe)
    plan = make_plan(recipe, facts)
    assert "why" not in {step.stage for step in plan.steps}
    longer, keys = with_why(plan, recipe, facts, ("tiny_onnx", "tiny_int8"))
    float_lane, int8_lane = plan.lanes
    one, other = longer.step(keys["tiny_onnx"]), longer.step(keys["tiny_int8"])
    assert one.needs == {"data": plan.data, "reference": plan.reference, "export": float_lane.export}
    assert other.needs == {**one.needs, "export": int8_lane.export, "quantize": int8_lane.quantize}
    assert isinstance(one.spec, WhySpec) and isinstance(other.spec, WhySpec)
    assert one.spec.quantize is None and other.spec.quantize is not None
    assert other.spec.quantize.scheme == "static_int8"
    assert one.spec.limits.min_sqnr_db == 201.0
    assert longer.steps[: len(plan.steps)] == plan.steps
    fewer = with_why(plan, recipe, facts, ("tiny_onnx",), samples=7)[1]["tiny_onnx"]
    assert fewer != one.key


def test_a_good_target_from_the_command_line_and_a_wrong_one_in_a_build(tiny, tmp_path):
    cache = tmp_path / "cache"
    done = in_process("why", "tiny_onnx", "--samples", 20, cache=cache, cwd=tmp_path)
    assert done.code == 0, done.stderr
    folder = tmp_path / "build" / "tiny" / "why" / "tiny_onnx"
    found = json.loads((folder / "why.json").read_text("utf-8"))
    assert (folder / "why.png").read_bytes().startswith(b"\x89PNG")
    assert found["samples"] == 20 and found["first_bad_stage"] == ""
    assert "tiny_onnx (onnx, fp32), 20 eval samples" in done.stdout
    assert [row["layer"] for row in found["layers"]] == ["0", "3"]
    assert found["sentence"] in done.stdout and found["sentence"].startswith("no bad stage: runtime is at 1")

    # The same as a build does it, whose verify asks for more than there can be.
    recipe = load_recipe(tiny)
    facts = gather(recipe, cache)
    plan = make_plan(recipe, facts)
    lane = plan.lanes[0]
    plan_of_one = type(plan)(
        tuple(s for s in plan.steps if s.lane in ("trunk", "tiny_onnx")), plan.data, plan.reference, (lane,)
    )
    with warm_stages():
        outcome = run_plan(plan_of_one, Store(cache), logs=tmp_path / "logs")
        assert outcome.records[lane.verify].status == "rejected"
        explained = explain_failures(plan_of_one, outcome, recipe, facts, cache=cache, out=tmp_path / "out")
    assert set(explained) == {"tiny_onnx"} and explained["tiny_onnx"]["path"] == "why/tiny_onnx.json"
    assert explained["tiny_onnx"]["sentence"].startswith("no bad stage")
    assert (tmp_path / "out" / "why" / "tiny_onnx.png").is_file()


def app(cache, folder, *options, fed):
    """`why tiny_onnx --app` of what a phone wrote."""
    np.save(folder / "fed.npy", fed)
    done = in_process(
        "why", "tiny_onnx", "--app", folder / "fed.npy", "--samples", 25, *options, cache=cache, cwd=folder
    )
    return done, json.loads((folder / "build/tiny/why/tiny_onnx/app.json").read_text("utf-8"))


def test_what_an_app_fed_from_the_command_line(tiny, tmp_path):
    cache, samples = tmp_path / "cache", open_recipe(load_recipe(tiny)).eval
    right = samples[7][0][0]  # of 0 to 1
    done, found = app(cache, tmp_path, fed=right[None] * 16)
    assert done.code == 1, done.stderr
    assert (found["verdict"], found["explanations"][0]["mistakes"]) == ("mistake", ["not_scaled"])
    assert found["tensors"][0]["sample"] == samples.ids[7] and not found["tensors"][0]["named"]
    assert found["sentence"] in done.stdout and "not divided (0-255 for 0-1)" in done.stdout
    cost = {each["metric"]: each for each in found["cost"]}
    assert {"accuracy_top1"} <= set(cost) and 0 <= cost["accuracy_top1"]["wrong"] <= 1
    assert cost["accuracy_top1"]["right"] * 25 == pytest.approx(round(cost["accuracy_top1"]["right"] * 25))

    done, found = app(cache, tmp_path, "--json", "--sample", samples.ids[7], fed=right)
    assert (done.code, json.loads(done.stdout)) == (0, found)
    assert (found["verdict"], found["cost"], found["tensors"][0]["named"]) == ("right", [], True)


@pytest.mark.parametrize(("options", "words"), [
    (("--dtype", "uint8"), "--dtype: only with --app"),
    (("--sample", "3", "--shape", "1,8"), "--sample, --shape: only with --app"),
    (("--app", "recipe.toml", "--shape", "8x8"), "wanted lengths with commas, as 1,224,224,3, found '8x8'"),
    (("--app", "missing.npy"), "missing.npy"),
    (("--app", "recipe.toml", "--dtype", "complex"), "complex"),
])  # fmt: skip
def test_options_of_app_are_refused_before_anything_runs(cli, cache, tiny, options, words):
    done = cli("why", "tiny_onnx", tiny, *(tiny if each == "recipe.toml" else each for each in options))
    assert (done.code, done.stdout) == (2, "") and words in done.stderr
    assert not cache.exists()


def test_the_words_of_a_bad_stage():
    first = FormFound("eager", "the module", "", "logits")
    bad = FormFound("lowered", "plain", "", "logits", "converted", 3.0, 4.0, 0.5, 0.5, 0.5, bad=True,
                    reasons=("SQNR 4.0 dB",))  # fmt: skip
    layers = tuple(LayerFound(name, "conv2d", db, None, "", None, None, None) for name, db in (("a", 31.0), ("b", 4.1)))
    found = Explained("t", "onnx", "fp32", 20, 16, (first, bad), "lowered", "logits", "lowered", layers, "", 10.0, "b",
                      "a wrong scale")  # fmt: skip
    assert sentence(found) == (
        "first bad stage: lowered (SQNR 4.0 dB); first bad layer: b (conv2d): SQNR 4.1 dB, 31.0 dB before it; likely a "
        "wrong scale"
    )
    assert [row[-1] for row in stage_rows(found.stages)] == ["–", "BAD"]
    found = dataclasses.replace(found, first_bad_layer="", layers=(), layers_missing="no op is known")
    assert sentence(found) == "first bad stage: lowered (SQNR 4.0 dB); layer not resolved: no op is known"
