"""`plan` runs nothing; `check` runs the model on its data and exports nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image
from warm_server import in_process

from pocketforge.commands.check import few_enough
from pocketforge.recipe.shipped import recipe_path
from pocketforge.recipe.toml import load_recipe, parse_recipe
from pocketforge.run.store import Store

SHIPPED = "shipped:digits_cnn"


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(recipe_path(SHIPPED))


def test_plan_as_json_has_every_target_and_runs_nothing(cli, cache, recipe):
    done = cli("plan", SHIPPED, "--json")
    assert (done.code, done.stderr) == (0, "")
    plan = done.json()
    assert plan["recipe"] == "digits_cnn"
    steps = plan["steps"]
    names = {t.name for t in recipe.targets}
    for stage in ("export", "verify", "bench"):
        assert {s["lane"] for s in steps if s["stage"] == stage} == names
    keys = [s["key"] for s in steps]
    assert len(set(keys)) == len(keys) and all(len(k) == 64 for k in keys)
    assert {need for s in steps for need in s["needs"].values()} <= set(keys)
    assert not any(s["stored"] for s in steps)
    assert Store(cache).keys() == []


def test_plan_as_a_table_says_how_much_there_is_to_do(cli, recipe):
    steps = cli("plan", SHIPPED, "--json").json()["steps"]
    done = cli("plan", SHIPPED)
    assert done.code == 0
    assert f"{len(steps)} steps, {len(steps)} to run" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    for target in recipe.targets:
        assert ["export", target.name] in [row[:2] for row in rows]
    assert [row[-1] for row in rows if row and row[0] in ("data", "export")] == ["no"] * (1 + len(recipe.targets))


def test_plan_knows_what_is_stored(cli, cache):
    first = cli("plan", SHIPPED, "--json").json()["steps"][0]
    store = Store(cache)
    with store.workspace() as out:
        (out / "x").write_text("x")
        store.publish(first["key"], out, {"stage": "data"})
    steps = cli("plan", SHIPPED, "--json").json()["steps"]
    assert [s["key"] for s in steps if s["stored"]] == [first["key"]]
    assert f"{len(steps)} steps, {len(steps) - 1} to run" in cli("plan", SHIPPED).stdout


def test_an_unknown_shipped_name_is_said_with_the_nearest_one(cli):
    done = cli("plan", "shipped:digit_cnn")
    assert (done.code, done.stdout) == (2, "")
    assert "no recipe is shipped under 'digit_cnn'; did you mean 'digits_cnn'?" in done.stderr


def test_every_fault_of_a_recipe_is_said_at_once(cli, tmp_path, small_recipe_text):
    path = tmp_path / "r.toml"
    wrong = small_recipe_text.replace('runtime = "onnx"', 'runtime = "onx"\nopsets = 20').replace('"digits"', "7")
    path.write_text(wrong)
    for command in ("plan", "check", "build", "bench"):
        done = cli(command, path)
        assert (done.code, done.stdout) == (2, ""), command
        assert "has 3 faults:" in done.stderr
        assert "target[0].runtime: unknown value 'onx'; did you mean 'onnx'?" in done.stderr
        assert "target[0].opsets: unknown key; did you mean 'opset'?" in done.stderr
        assert "data.source: wanted a string, found an integer 7" in done.stderr


def test_files_that_a_recipe_names_and_that_are_not_there_are_all_said(cli, tmp_path, small_recipe_text):
    path = tmp_path / "r.toml"
    path.write_text(small_recipe_text)
    done = cli("plan", path)
    assert (done.code, done.stdout) == (2, "")
    assert f"model.definition: no file {tmp_path / 'model.py'}" in done.stderr
    assert f"model.weights: no file {tmp_path / 'weights.safetensors'}" in done.stderr


def test_check_gives_the_models_figures_and_a_build_goes_on_from_it(program, tmp_path, recipe):
    cache = tmp_path / "cache"
    done = program("check", SHIPPED, "--json", "--progress", "json", cache=cache, cwd=tmp_path)
    assert done.code == 0, done.stderr
    found = done.json()
    assert found["parameters"] == 114_666 and found["macs"] == 10_163_136
    assert found["accuracy"]["accuracy_top1"] > 0.98
    assert found["samples"]["source"] == 1797 and found["labels"] == 10
    assert found["inputs"] == [{"name": "input", "shape": [1, 1, 32, 32], "dtype": "float32"}]
    assert found["targets"] == [t.name for t in recipe.targets]
    int8 = {t.name: t.runtime for t in recipe.targets if t.quantize.is_int8}
    assert {name: each["runtime"] for name, each in found["numbers"].items()} == int8
    for each in found["numbers"].values():
        parts = {part["name"]: part["numbers"] for part in each["parts"]}
        assert set(parts.values()) <= {"int8", "float"} and parts["classifier"] == parts["add@residual"] == "int8"
        assert (parts["adaptive_avg_pool2d@pool"] == "float") == (each["runtime"] == "onnx")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["stage"] for e in told if e["event"] == "StepFinished"] == ["data", "reference", "annotate"]

    steps = in_process("plan", SHIPPED, "--json", cache=cache, cwd=tmp_path).json()["steps"]
    assert {s["stage"] for s in steps if s["stored"]} == {"data", "reference"}
    again = in_process("check", SHIPPED, "--progress", "json", cache=cache, cwd=tmp_path)
    told = [json.loads(line)["event"] for line in again.stderr.splitlines()]
    assert sorted(told) == ["BuildStarted", "StepReused", "StepReused", "StepReused"]
    assert (
        "digits_onnx_int8 static_int8, onnx: 13 of 13 layers in int8 (100.0% of their weights), 11 of 12"
        in again.stdout
    )
    assert "float: adaptive_avg_pool2d@pool" in again.stdout
    assert again.code == 0 and "digits_onnx_int8" in again.stdout and "accuracy_top1" in again.stdout
    assert not list(Path(tmp_path).glob("build*"))


PHOTOGRAPHS = """
name = "photographs"
[model]
definition = "model.py"
[data]
source = "imagefolder:photos"
calibration_samples = 8
[[target]]
name = "t"
runtime = "onnx"
"""


def test_check_says_what_an_image_folder_was_taken_as(cli, tmp_path):
    """Splits in other words than train and val, a name that is not UTF-8, files that are no images."""
    folder = tmp_path / "photos"
    for number, part in enumerate(("Training", "valid")):
        for label, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for shade in range(8):
                color = (number * 100 + shade, label * 200, 0)
                Image.new("RGB", (6, 5), color).save(folder / part / name / f"{shade}.jfif", "JPEG", quality=95)
    os.rename(folder / "valid" / "cat" / "0.jfif", os.fsencode(folder / "valid" / "cat") + b"/\xff.jfif")
    (folder / "valid" / "cat" / "list.txt").write_text("no image")
    net = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))"
    (tmp_path / "model.py").write_text(f"from torch import nn\ndef build(): return {net}\n")
    (tmp_path / "r.toml").write_text(PHOTOGRAPHS)
    assert "data  1 file passed over: 1 .txt" in cli("plan", tmp_path / "r.toml").stdout
    done = cli("check", tmp_path / "r.toml", "--json")
    assert (done.code, done.stderr) == (0, "")
    found = done.json()
    assert found["data"] == [
        "split folders: Training/ is trained on, valid/ is evaluated",
        "1 file passed over: 1 .txt",
    ]
    assert (found["labels"], found["samples"]["source"], found["samples"]["eval"]) == (2, 32, 16)
    assert "valid/ is evaluated; 1 file passed over" in cli("check", tmp_path / "r.toml").stdout


LARGE = "preprocess = { resize = [224, 224] }\n"


@pytest.mark.parametrize(
    ("data", "evaluated"),
    [
        (f'source = "imagefolder:photos"\n{LARGE}', 100),
        (f'source = "imagefolder:photos"\n{LARGE}eval_samples = 40\n', 40),
        ('source = "imagefolder:photos"\npreprocess = { resize = [32, 32] }\n', 1000),
        ('source = "imagefolder:photos"\n', 100),
        ('source = "npz:samples.npz"\n', 1000),
        ('source = "npz:samples.npz"\n[[model.input]]\nshape = [1, 3, 320, 320]\n', 100),
    ],
)
def test_of_large_samples_few_are_evaluated(data, evaluated):
    text = PHOTOGRAPHS.replace('source = "imagefolder:photos"\ncalibration_samples = 8\n', data)
    assert few_enough(parse_recipe(text)) == evaluated


def test_check_says_on_how_many_samples_its_figures_are(cli, tmp_path):
    """1,000 images of 224 × 224 keep a MobileNet busy for half a minute, and say no more of the recipe."""
    for shade in range(240):
        folder = tmp_path / "photos" / f"class{shade % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), (shade, shade % 2 * 200, 0)).save(folder / f"{shade}.png")
    net = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))"
    (tmp_path / "model.py").write_text(f"from torch import nn\ndef build(): return {net}\n")
    more = f"eval_fraction = 0.6\n{LARGE}"
    (tmp_path / "r.toml").write_text(
        PHOTOGRAPHS.replace("calibration_samples = 8\n", f"calibration_samples = 8\n{more}")
    )
    found = cli("check", tmp_path / "r.toml", "--json").json()
    in_build = found["samples"]["eval"]
    assert (found["evaluated"], found["samples"]["held_out"]) == (100, 0) and in_build > 110
    text = cli("check", tmp_path / "r.toml").stdout
    assert re.search(r"accuracy_top1 +0\.\d{4} on 100 of the eval samples; a build takes all\n", text)
    assert f" train, {in_build} eval, 8 calibration" in text
    whole = cli("check", tmp_path / "r.toml", "--all-samples", "--json").json()
    assert whole["evaluated"] == in_build and whole["samples"] == found["samples"]


RECURRENT = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 10)
    def forward(self, x):
        return self.fc(self.rnn(x[:, 0])[0][:, -1])
def build():
    return Net()
"""
FEW = """
name = "few"
[model]
definition = "model.py"
[data]
source = "data.py:samples"
calibration_samples = 20
[[target]]
name = "t"
runtime = "onnx"
quantize = { scheme = "dynamic_int8" }
"""
SAMPLES = """
import numpy as np
def samples():
    x = np.random.RandomState(0).rand(40, 1, 8, 8).astype(np.float32)
    return {"train": [(s, k % 10) for k, s in enumerate(x[:20])], "eval": [(s, k % 10) for k, s in enumerate(x[20:])]}
"""


def test_check_is_not_good_where_a_build_would_refuse_a_target_or_has_nothing_to_train_on(cli, tmp_path):
    (tmp_path / "model.py").write_text(RECURRENT)
    (tmp_path / "data.py").write_text(SAMPLES)
    path = tmp_path / "r.toml"
    path.write_text(FEW)
    done = cli("check", path, "--progress", "none")
    assert done.code == 2 and done.stdout.startswith(f"{path}: 1 of 1 targets refused\n"), done.stdout
    assert "refused: dynamic_int8 would leave" in done.stdout and ": good" not in done.stdout
    as_json = cli("check", path, "--progress", "none", "--json")
    assert as_json.code == 2 and as_json.json()["refused"] == ["t"]
    # All 20 train samples are set apart to calibrate with.
    path.write_text(f'{FEW.replace("dynamic_int8", "fp32")}\n[[compress]]\ntype = "finetune"\n')
    done = cli("check", path, "--progress", "none")
    assert (done.code, done.stdout) == (2, ""), done.stdout
    assert "compress[0]: training needs at least 2 samples, the train split has 0" in done.stderr
    assert "lower data.calibration_samples" in done.stderr
