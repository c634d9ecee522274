"""`pocketforge study`: options that are wrong, and both studies from the command line on a small net."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketforge.run.store import Store

MODEL = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(x)))


def build():
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=4), Block(), Block(), nn.Flatten(), nn.Linear(8 * 4, 10))
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

[[compress]]
type = "prune_channels"
ratio = 0.5
round_to = 2
protect = ["4"]

[[target]]
name = "tiny_onnx"
runtime = "onnx"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ratios", "0.1-0.7"), "Invalid value for '--ratios': a ratio must be a decimal number"),
        (("--ratios", "0.1,1.0"), "a ratio must be more than 0 and less than 1, found 1.0"),
        (("--ratios", "0.1,0.3", "--step", "0.1"), "a step is for a range such as 0.1..0.7, found '0.1,0.3'"),
        (("--methods", "channels,layer"), "Invalid value for '--methods': no 'layer'; did you mean 'layers'?"),
        (("--by", "flops"), "Invalid value for '--by': no 'flops'"),
        (("--runtimes", "onnx,onnx"), "Invalid value for '--runtimes': 'onnx' twice"),
        (("--seeds", "0"), "Invalid value for '--seeds'"),
        (("--rounds", "1"), "Invalid value for '--rounds'"),
    ],
)
def test_wrong_options_are_said_before_anything_runs(cli, cache, tiny, options, says):
    done = cli("study", "pruning", tiny, *options)
    assert (done.code, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.split())
    assert not (tiny.parent / "build").exists() and not cache.exists()


def test_a_recipe_that_is_not_there_and_a_task_that_does_not_fit(cli, tiny, tmp_path):
    for study in ("sensitivity", "pruning"):
        done = cli("study", study, tmp_path / "no.toml", "--out", tmp_path / "out")
        assert done.code == 2 and "no.toml" in done.stderr and "Traceback" not in done.stderr
    done = cli("study", "sensitivity", tiny, "--max-accuracy-drop", "1.5")
    assert done.code == 2 and "--max-accuracy-drop" in done.stderr
    tiny.write_text(RECIPE.replace('name = "tiny"', 'name = "tiny"\ntask = "regression"', 1))
    done = cli("study", "pruning", tiny, "--out", tmp_path / "out", "--epochs", 1)
    assert done.code == 2 and 'needs task "classification"' in done.stderr


STATES = '[[model.input]]\nshape = [1, 8]\n[[model.input]]\nshape = [2, 1, 4]\nstate = "h"\n\n[data]'
OUTPUTS = '[[output]]\nname = "a"\nrole = "logits"\n[[output]]\nname = "b"\nrole = "state"\n\n[data]'


@pytest.mark.parametrize(
    ("study", "tables"),
    [
        *((study, STATES) for study in ("layers", "sensitivity", "quantizers", "pruning")),
        *((study, OUTPUTS) for study in ("layers", "quantizers", "pruning")),
    ],
)
def test_models_that_a_study_is_not_for_are_refused_in_words(cli, tiny, study, tables):
    """They ended as errors of ours: a study runs another recipe than the user's, and that one broke a rule."""
    start, end = RECIPE.index("[[compress]]"), RECIPE.index("[[target]]")
    tiny.write_text((RECIPE[:start] + RECIPE[end:]).replace("[data]", tables))
    done = cli("study", study, tiny)
    assert done.code == 2 and "internal" not in done.stderr and f"study {study} " in done.stderr, done.stderr


def test_sensitivity_is_shown_written_and_stored(cli, cache, tiny, tmp_path):
    pytest.importorskip("torch_pruning")
    pytest.importorskip("matplotlib")
    from PIL import Image

    out = tmp_path / "out"
    done = cli("study", "sensitivity", tiny, "--out", out, "--max-accuracy-drop", "0.9", "--progress", "plain")
    assert done.code == 0, done.stderr
    assert "start   sensitivity" in done.stderr
    found = json.loads((out / "sensitivity.json").read_text())
    names = [row["name"] for row in found["layers"]]
    assert names and "1.conv1" in names and "4" not in names
    for row in found["layers"]:
        (line,) = [x for x in done.stdout.splitlines() if x.startswith(row["name"] + " ")]
        assert f"{row['metric'][0]:.4f}" in line and line.split()[1] == "8"
    with Image.open(out / "sensitivity.png") as image:
        image.load()
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 20)) > 20

    # A second time nothing is measured; another limit on the drop is another choice from the same figures.
    keys = Store(cache).keys()
    again = cli("study", "sensitivity", tiny, "--out", out, "--json", "--max-accuracy-drop", "0", "--progress", "plain")
    assert "reused  sensitivity" in again.stderr and Store(cache).keys() == keys
    assert {k: again.json()[k] for k in found} == found
    assert set(again.json()["chosen"]) == set(names)
    assert max(again.json()["chosen"].values()) <= 0.875

    # A build with ratio = "auto" takes the stored study.
    tiny.write_text(RECIPE.replace("ratio = 0.5", 'ratio = "auto"'))
    steps = {step["stage"]: step["stored"] for step in cli("plan", tiny, "--json").json()["steps"]}
    assert steps["sensitivity"] is True and steps["prune"] is False


def test_pruning_is_shown_and_written_and_goes_on(cli, tiny, tmp_path):
    pytest.importorskip("torch_pruning")
    pytest.importorskip("matplotlib")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    command = ("study", "pruning", tiny, "--ratios", "0.3", "--seeds", 2, "--epochs", 1, "--methods", "channels,layers",
               "--by", "macs", "--rounds", 2, "--out", out, "--progress", "plain")  # fmt: skip
    done = cli(*command)
    assert done.code == 0, done.stderr
    assert "[6/6] layers 0.3 of macs, seed 1:" in done.stderr and "timing 3 files in onnx" in done.stderr
    found = json.loads((out / "study.json").read_text())
    assert [row["method"] for row in found["rows"]] == ["none", "channels", "layers"]
    for words in ("macs", "channels", "layers", "claim: at an equal removed share", found["verdicts"][0]["verdict"]):
        assert words in done.stdout
    assert {p.name for p in out.iterdir() if p.is_file()} == {
        "study.json", "study.csv", "accuracy_by_macs.png", "accuracy_by_latency_onnx.png",
    }  # fmt: skip
    again = cli(*command, "--json")
    assert again.json() == found
    assert again.stderr.count("(kept") == 7


def test_layers_are_shown_written_and_stored(cli, cache, tiny, tmp_path):
    pytest.importorskip("executorch")
    pytest.importorskip("matplotlib")
    from PIL import Image

    recipe = RECIPE[: RECIPE.index("[[compress]]")] + RECIPE[RECIPE.index("[[target]]") :]
    tiny.write_text(f'{recipe}quantize = {{ scheme = "static_int8", calibration = "minmax" }}\n')
    out = tmp_path / "out"
    unknown = cli("study", "layers", tiny, "--target", "tiny_onx", "--out", out)
    assert unknown.code == 2 and "no target 'tiny_onx'; did you mean 'tiny_onnx'?" in unknown.stderr
    done = cli("study", "layers", tiny, "--out", out, "--progress", "plain")
    assert done.code == 0, done.stderr
    found = json.loads((out / "layers.json").read_text())
    names = ["0", "1.conv1", "1.conv2", "2.conv1", "2.conv2", "4"]
    assert [row["name"] for row in found["layers"]] == names
    for row in found["layers"]:
        (line,) = [x for x in done.stdout.splitlines() if x.startswith(row["name"] + " ")]
        assert f"{row['only_quantized']['sqnr_db']:.1f}" in line and f"{row['weights']:,}" in line
        assert row["only_quantized"]["sqnr_db"] >= found["all_quantized"]["sqnr_db"] - 1
    with Image.open(out / "layers.png") as image:
        image.load()
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 20)) > 20
    again = cli("study", "layers", tiny, "--out", out, "--json", "--progress", "plain")
    assert again.json() == found and "start   layers" not in again.stderr
