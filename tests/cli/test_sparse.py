"""`sparse`: pack and unpack a weights file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from pocketforge.cli.main import cli
from pocketforge.errors import ModelError, RecipeError

DIGITS = Path(__file__).parents[2] / "models/digits_cnn/weights.safetensors"


def sparse(*args: object) -> Result:
    # Through the root: click remembers on a command which words asked for help where it was first run.
    done = CliRunner().invoke(cli, ["sparse", *map(str, args)])
    if isinstance(done.exception, Exception):
        raise done.exception
    return done


@pytest.fixture
def weights(tmp_path) -> Path:
    """The shipped digits weights with 75 % of each convolution zeroed."""
    values = load_file(DIGITS)
    for value in values.values():
        if value.ndim == 4:
            value[np.abs(value) < np.quantile(np.abs(value), 0.75)] = 0
    path = tmp_path / "weights.safetensors"
    save_file(values, path)
    return path


def test_pack_and_unpack_give_the_file_back(weights):
    original = weights.read_bytes()
    done = sparse("pack", weights)
    packed = weights.with_name("weights.sparse.safetensors")
    lines = done.stdout.splitlines()
    assert lines[0] == f"wrote   {packed}"
    zeros = sum(int((value == 0).sum()) for value in load_file(weights).values())
    assert lines[1].startswith(f"zeros   {zeros:,} of ")
    assert lines[2].startswith(f"dense   {len(original):,} bytes, gzip ")
    assert lines[3].startswith(f"sparse  {packed.stat().st_size:,} bytes (")
    assert lines[4].startswith("stored  ") and "bitmask" in lines[4]
    assert packed.stat().st_size < len(original) / 2

    weights.unlink()
    done = sparse("unpack", packed)
    assert weights.read_bytes() == original
    assert done.stdout.startswith(f"wrote   {weights}\ndense   {len(original):,} bytes, the same as were packed")


def test_json_has_the_sizes_and_the_file(weights, tmp_path):
    found = json.loads(sparse("pack", weights, "-o", tmp_path / "a", "--json").stdout)
    assert found["file"] == str(tmp_path / "a")
    assert found["sparse_bytes"] == (tmp_path / "a").stat().st_size
    assert found["dense_bytes"] == weights.stat().st_size
    assert {row["encoding"] for row in found["tensors"]} <= {"dense", "bitmask", "csr"}
    back = json.loads(sparse("unpack", tmp_path / "a", "--output", tmp_path / "b", "--json").stdout)
    assert back["dense_bytes"] == found["dense_bytes"] and back["file"] == str(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == weights.read_bytes()


def test_a_packed_file_of_another_name_is_unpacked_beside_it(weights, tmp_path):
    sparse("pack", weights, "-o", tmp_path / "small.safetensors")
    sparse("unpack", tmp_path / "small.safetensors")
    assert (tmp_path / "small.dense.safetensors").read_bytes() == weights.read_bytes()


def test_nothing_is_written_over_without_force(weights):
    packed = weights.with_name("weights.sparse.safetensors")
    packed.write_text("precious")
    with pytest.raises(RecipeError, match=r"sparse\.safetensors exists") as caught:
        sparse("pack", weights)
    assert "--force" in caught.value.hint
    assert packed.read_text() == "precious"
    sparse("pack", weights, "--force")
    original = weights.read_bytes()
    with pytest.raises(RecipeError, match=r"weights\.safetensors exists"):
        sparse("unpack", packed)
    weights.write_bytes(b"changed since")
    sparse("unpack", packed, "--force")
    assert weights.read_bytes() == original


def test_a_file_is_never_written_over_itself(weights):
    original = weights.read_bytes()
    with pytest.raises(RecipeError, match="is the file to read"):
        sparse("pack", weights, "-o", weights, "--force")
    assert weights.read_bytes() == original


@pytest.mark.parametrize("verb", ["pack", "unpack"])
def test_wrong_files_are_refused_and_nothing_is_written(tmp_path, verb):
    (tmp_path / "text").write_text("not weights at all")
    for name, said in (("text", "is not a whole|cannot be unpacked"), ("nowhere", "there is no file")):
        with pytest.raises(ModelError, match=said):
            sparse(verb, tmp_path / name, "-o", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_unpacking_a_dense_file_says_what_is_wanted(weights):
    with pytest.raises(ModelError, match="it is not stored sparsely") as caught:
        sparse("unpack", weights)
    assert "pocketforge sparse pack" in caught.value.hint


def test_help_says_what_it_buys_and_what_not():
    text = " ".join(sparse("--help").stdout.split())
    assert "unpack gives the same bytes" in text and "not memory or time" in text
    for verb in ("pack", "unpack"):
        assert "--force" in sparse(verb, "--help").stdout
