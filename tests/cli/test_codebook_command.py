"""`codebook`: pack and unpack a weights file. `study quantizers` on a small net."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from pocketforge.cli.main import cli
from pocketforge.errors import ModelError, RecipeError

DIGITS = Path(__file__).parents[2] / "models/digits_cnn/weights.safetensors"


def codebook(*args: object) -> Result:
    # Through the root: click remembers on a command which words asked for help where it was first run.
    done = CliRunner().invoke(cli, ["codebook", *map(str, args)])
    if isinstance(done.exception, Exception):
        raise done.exception
    return done


@pytest.fixture
def weights(tmp_path) -> Path:
    """The shipped digits weights, each convolution rounded to 9 values."""
    values = load_file(DIGITS)
    for name, value in values.items():
        if value.ndim == 4:
            step = np.abs(value).max() / 4
            values[name] = (np.rint(value / step) * step).astype(np.float32)
    path = tmp_path / "weights.safetensors"
    save_file(values, path)
    return path


def test_pack_and_unpack_give_the_file_back(weights):
    original = weights.read_bytes()
    done = codebook("pack", weights)
    packed = weights.with_name("weights.codebook.safetensors")
    lines = done.stdout.splitlines()
    assert lines[0] == f"wrote     {packed}"
    tensors = load_file(weights)
    convolutions = sum(value.ndim == 4 for value in tensors.values())
    assert lines[1] == f"packed    {convolutions} of {len(tensors)} tensors"
    assert lines[2].startswith(f"dense     {len(original):,} bytes, gzip ")
    assert lines[3].startswith(f"codebook  {packed.stat().st_size:,} bytes (")
    assert lines[4].startswith("entropy   ")
    assert packed.stat().st_size < len(original) / 4

    weights.unlink()
    done = codebook("unpack", packed)
    assert weights.read_bytes() == original
    assert done.stdout.startswith(f"wrote   {weights}\ndense   {len(original):,} bytes, the same as were packed")


def test_json_has_the_sizes_and_the_file(weights, tmp_path):
    found = json.loads(codebook("pack", weights, "-o", tmp_path / "a", "--json").stdout)
    assert found["file"] == str(tmp_path / "a")
    assert found["codebook_bytes"] == (tmp_path / "a").stat().st_size
    assert found["dense_bytes"] == weights.stat().st_size
    assert {row["bits"] for row in found["tensors"] if row["encoding"] == "codebook"} <= {3, 4}
    back = json.loads(codebook("unpack", tmp_path / "a", "--output", tmp_path / "b", "--json").stdout)
    assert back["dense_bytes"] == found["dense_bytes"] and back["file"] == str(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == weights.read_bytes()


def test_nothing_is_written_over_unasked(weights):
    codebook("pack", weights)
    packed = weights.with_name("weights.codebook.safetensors")
    packed.write_text("precious")
    with pytest.raises(RecipeError, match="exists") as caught:
        codebook("pack", weights)
    assert "--force" in caught.value.hint and packed.read_text() == "precious"
    codebook("pack", weights, "--force")
    with pytest.raises(RecipeError, match="is the file to read"):
        codebook("pack", weights, "-o", weights, "--force")


@pytest.mark.parametrize("verb", ["pack", "unpack"])
def test_wrong_files_are_refused_and_nothing_is_written(tmp_path, verb):
    (tmp_path / "text").write_text("not weights at all")
    for name, said in (("text", "is not a whole|cannot be unpacked"), ("nowhere", "there is no file")):
        with pytest.raises(ModelError, match=said):
            codebook(verb, tmp_path / name, "-o", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_help_says_what_it_buys_and_what_not():
    text = " ".join(codebook("--help").stdout.split())
    assert "unpack gives the same bytes" in text and "not memory or time" in text


MODEL = """\
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(1, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
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
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


@pytest.mark.parametrize(
    ("bits", "says"),
    [("1", "no '1'"), ("9", "no '9'"), ("4,4", "'4' twice"), ("two", "no 'two'"), ("", "Invalid value for '--bits'")],
)
def test_wrong_bits_are_said_before_anything_runs(cli, cache, tiny, bits, says):
    done = cli("study", "quantizers", tiny, "--bits", bits)
    assert (done.code, done.stdout) == (2, "")
    assert "Invalid value for '--bits'" in done.stderr and says in done.stderr
    assert not (tiny.parent / "build").exists() and not cache.exists()


def test_a_recipe_that_is_not_there_is_said(cli, tmp_path):
    done = cli("study", "quantizers", tmp_path / "no.toml", "--out", tmp_path / "out")
    assert done.code == 2 and "no.toml" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other
def test_the_quantizers_are_compared_shown_written_and_kept(cli, tiny, tmp_path):
    pytest.importorskip("torchao")
    pytest.importorskip("matplotlib")
    from PIL import Image

    out = tmp_path / "out"
    command = ("study", "quantizers", tiny, "--bits", "2,5", "--out", out, "--progress", "plain")
    done = cli(*command)
    assert done.code == 0, done.stderr
    found = json.loads((out / "quantizers.json").read_text())
    kinds = ["uniform", "uniform per channel", "quantile", "k-means"]
    assert [(row["quantizer"], row["bits"]) for row in found["rows"]] == [(k, b) for b in (2, 5) for k in kinds]
    rows = {(row["quantizer"], row["bits"]): row for row in found["rows"]}
    values, rest = 24 * 9 + 2160, 24 + 10  # batch norm is folded: biases of both layers are what else there is
    assert found["float"]["bytes"] == 4 * (values + rest) and found["eval_samples"] == 60
    # Indices, the tables of two layers, the biases.
    for kind, floats in (("uniform", 2), ("uniform per channel", 34), ("k-means", 64), ("quantile", 64)):
        row = rows[kind, 5]
        assert row["packed_bytes"] == values * 5 / 8 + 4 * (floats + rest)
        assert row["entropy_bytes"] <= row["packed_bytes"] < found["float"]["bytes"] / 4
        assert row["weight_mse"] < rows[kind, 2]["weight_mse"]
        assert row["output_sqnr_db"] > rows[kind, 2]["output_sqnr_db"]
        assert 0 <= row["accuracy"] <= 1 and 10 < row["weight_sqnr_db"] < 40
    for bits in (2, 5):
        assert rows["k-means", bits]["weight_mse"] < rows["uniform", bits]["weight_mse"]
        assert rows["k-means", bits]["weight_mse"] < rows["quantile", bits]["weight_mse"]
    for row in csv.DictReader(io.StringIO((out / "quantizers.csv").read_text())):
        assert int(row["packed_bytes"]) == rows[row["quantizer"], int(row["bits"])]["packed_bytes"]
    with Image.open(out / "quantizers.png") as image:
        image.load()
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert f"{rows['k-means', 5]['packed_bytes']:,}" in done.stdout and "float32" in done.stdout
    assert "[8/8] k-means, 5 bits" in done.stderr and "torchao" not in done.stderr

    again = cli(*command, "--json")
    assert again.json() == found and again.stderr.count("(kept)") == 8
