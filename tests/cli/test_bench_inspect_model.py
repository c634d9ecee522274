"""`inspect`, `model show`, `bench` and `train`, each on something real and small."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pocketforge.recipe.shipped import models_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def tiny(folder):
    """A linear layer: x (1×4) → y (1×3), as an .onnx file of 15 weights."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "weight")
    bias = numpy_helper.from_array(np.zeros(3, np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], "linear")],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weight, bias],
    )
    path = folder / "tiny.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def samples(folder):
    path = folder / "samples.npy"
    np.save(path, np.linspace(0, 1, 32, dtype=np.float32).reshape(8, 4))
    return path


def test_inspect_says_what_is_in_a_file(cli, tiny):
    done = cli("inspect", tiny)
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "tiny.onnx  onnx" in lines
    assert "input   x float32 [1, 4]" in lines and "output  y float32 [1, 3]" in lines
    assert any(line.split() == ["Gemm", "1"] for line in lines)
    assert "weights: float32 60 bytes" in lines
    assert any(line.split()[-6:] == ["weight", "[4,", "3]", "float32", "12", "48"] for line in lines)
    assert f"{tiny.stat().st_size:,} bytes" in done.stdout and " 15 parameters" in done.stdout
    assert not any(
        line.split()[-2:] == ["12", "48"] for line in cli("inspect", tiny, "--no-layers").stdout.splitlines()
    )


def test_size_says_what_an_app_carries(cli, tiny, tmp_path):
    """A file without quantization: its operator, the library, the two sums, and what a build of the runtime reads."""
    done = cli("size", tiny)
    assert done.code == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "tiny.onnx" in told and "Gemm" in told and f"{tiny.stat().st_size:,}" in told and "gzip" in told
    found = cli("size", tiny, "--json").json()
    (file,) = found["files"]
    assert f"{file['app_download_bytes']:,}" in told and f"{file['app_installed_bytes']:,}" in told
    assert cli("size", tiny, "--write", tmp_path / "built").code == 0
    assert "Gemm" in (tmp_path / "built" / "required_operators_and_types.config").read_text("utf-8")


def test_inspect_as_json(cli, tiny):
    found = cli("inspect", tiny, "--json").json()
    assert (found["format"], found["parameters"], found["ops"]) == ("onnx", 15, {"Gemm": 1})
    assert found["inputs"][0]["shape"] == [1, 4]
    assert sum(w["size_bytes"] for w in found["weights"]) == 60 == sum(found["dtypes"].values())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.onnx", None, "wanted a model file, found No such file or directory"),
        ("empty.tflite", b"", "found an empty file"),
        ("cut.onnx", b"\x08\x09\x3a\xff\xff\xff\x7f", "truncated or damaged"),
        ("text.pte", b"hello, this is text", "wanted the identifier ET12 at byte 4"),
    ],
)
def test_inspect_of_something_else_exits_2(cli, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = cli("inspect", tmp_path / name)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_model_show_adds_up(program, cli, tmp_path):
    args = ("model", "show", "shipped:digits_cnn")
    done = program(*args, "--json", cache=tmp_path, cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")  # no warnings of torch's either
    found = done.json()
    assert found["parameters"] == 114_666 == sum(layer["parameters"] for layer in found["layers"])
    assert found["macs"] == 10_163_136
    assert found["inputs"] == [{"shape": [1, 1, 32, 32], "dtype": "float32"}]
    last = found["layers"][-1]
    assert (last["name"], last["kind"], last["output"]) == ("classifier", "Linear", [1, 10])
    text = cli(*args)
    assert text.stderr == ""
    assert ["classifier", "Linear", "[1,", "10]", "970"] in [line.split() for line in text.stdout.splitlines()]
    assert text.stdout.splitlines()[-1] == "114,666 parameters, 10,163,136 MACs"


MODEL = """\
import warnings
from torch import nn


def build(width=16):
    print("building", width)
    warnings.warn("old")
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(width, 10))
"""
RECIPE = """\
name = "own"
[model]
definition = "own.py"
{more}
[data]
source = "digits"
preprocess = {{ resize = [32, 32], scale = 16.0 }}
[[target]]
name = "own_onnx"
runtime = "onnx"
"""


@pytest.fixture
def own(tmp_path):
    """A user's model that talks while it is built, and its recipe."""

    def write(more="", model=MODEL):
        (tmp_path / "own.py").write_text(model)
        path = tmp_path / "own.toml"
        path.write_text(RECIPE.format(more=more))
        return path

    return write


def test_what_a_users_model_prints_does_not_get_into_the_result(cli, own):
    done = cli("model", "show", own(), "--json")
    assert done.json()["parameters"] == 170
    assert done.stderr == "building 16\n"


@pytest.mark.parametrize(
    ("more", "model", "said"),
    [
        ("args = { depth = 3 }", MODEL, "unexpected keyword argument 'depth'"),
        ("args = { width = 15 }", MODEL, "the model fails on input [1, 1, 32, 32]: mat1 and mat2"),
        ("", "x = 1", "has no function build()"),
        ("", "def build(:", "raised SyntaxError: invalid syntax (own.py, line 1)"),
        ("", "import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_model_that_cannot_be_shown_is_a_message_not_a_traceback(cli, own, more, model, said):
    done = cli("model", "show", own(more, model))
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_bench_times_a_file_on_given_samples(cli, tiny, samples):
    done = cli("bench", tiny, "--inputs", samples, "--samples", 60, "--seconds", 0.01, "--json")
    assert (done.code, done.stderr) == (0, "")
    (found,) = done.json()
    assert found["name"] == "tiny.onnx" and found["via"] == "host" and found["threads"] == 1
    assert len(found["processes"]) == 3 and sum(p["samples"] for p in found["processes"]) == found["samples"]
    assert found["runtime"].startswith("onnxruntime ")
    times = found["samples_ms"]
    assert len(times) == found["samples"] >= 60 and min(times) == found["min_ms"] > 0
    assert found["p50_ms"] == pytest.approx(float(np.median(times)))
    medians = [p["p50_ms"] for p in found["processes"]]
    assert 0 < found["p50_low_ms"] <= min(medians) <= found["p50_ms"] <= max(medians) <= found["p50_high_ms"]
    assert found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= max(times)
    assert found["peak_rss_bytes"] > 1e7 and found["load_ms"] > 0


def test_bench_as_a_table_has_the_interval(cli, tiny, samples):
    done = cli("bench", tiny, "--inputs", samples, "--samples", 60, "--seconds", 0)
    rows = [line.split() for line in done.stdout.splitlines()]
    timed, ran = [row for row in rows if row[:1] == ["tiny.onnx"]]
    assert timed[1:3] == ["3", "60"]
    low, high = (float(end) for end in timed[5].split("–"))
    assert low <= float(timed[4]) <= high
    assert ran[1:3] == ["host", "onnxruntime"] and ran[4] == "1"


def test_an_interval_that_the_samples_cannot_give_is_null_never_infinity(cli, tiny, samples, monkeypatch):
    from pocketforge.measure import bench_rows
    from pocketforge.stats import Interval

    monkeypatch.setattr(bench_rows, "latency_interval", lambda *_: Interval(1.0, -math.inf, math.inf))
    args = ("bench", tiny, "--inputs", samples, "--samples", 10, "--seconds", 0)
    (found,) = cli(*args, "--json").json()
    assert found["p50_low_ms"] is None and found["p50_high_ms"] is None
    assert "?–?" in cli(*args).stdout


def test_bench_without_samples_asks_for_them(cli, tiny):
    done = cli("bench", tiny)
    assert (done.code, done.stdout) == (2, "")
    assert "tiny.onnx needs samples to run on: --inputs SAMPLES.npy" in done.stderr


def test_bench_says_that_a_file_is_damaged_or_another_before_it_asks_for_samples(cli, tiny, tmp_path):
    """Case E11: nobody makes samples for a file that cannot run."""
    whole = tiny.read_bytes()
    for name, content, said in (
        ("cut.onnx", whole[: len(whole) // 2], "found one that is truncated or damaged"),
        ("empty.onnx", b"", "found an empty file"),
        ("other.tflite", whole, "other.tflite is a .onnx file by its content"),
        ("noise.pte", b"nothing of the kind", "wanted the identifier ET12"),
        ("lfs.tflite", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ):
        (tmp_path / name).write_bytes(content)
        done = cli("bench", tmp_path / name)
        assert (done.code, done.stdout) == (2, ""), name
        assert said in done.stderr and "--inputs" not in done.stderr, done.stderr


def test_inspect_shows_control_characters_of_a_file_and_obeys_none(cli, tiny, tmp_path):
    """Case E6: names and texts in a file that somebody else made."""
    from onnx import load, save

    model = load(tiny)
    model.producer_name = "\x1b[31mred\x1b[0m\x07\nverdict  PASS\u202e [bold]"
    model.graph.node[0].name = model.graph.initializer[0].name = model.graph.node[0].input[1] = "w\x1b]0;title\x07\n"
    path = tmp_path / "na\x1b[2Jme\n.onnx"
    save(model, path)
    done = cli("inspect", path)
    assert done.code == 0 and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout), done
    assert "\\x1b[31mred\\x1b[0m\\x07\\nverdict  PASS\\u202e [bold]" in done.stdout
    assert done.stdout.startswith("na\\x1b[2Jme\\n.onnx  ") and "w\\x1b]0;title\\x07\\n" in done.stdout
    assert cli("inspect", path, "--json").json()["name"] == path.name
    missing = cli("inspect", tmp_path / "\x1b[2J\nverdict  PASS.onnx").stderr
    assert "\x1b" not in missing and not re.search("^verdict", missing, re.MULTILINE)


def test_what_is_no_file_is_refused_without_being_read(cli, tmp_path):
    os.mkfifo(tmp_path / "fifo.onnx")
    os.mkfifo(tmp_path / "report.json")
    os.mkfifo(tmp_path / "mine.toml")
    for args, said in (
        (("inspect", tmp_path / "fifo.onnx"), "found it is no regular file"),
        (("inspect", "/dev/zero"), "found it is no regular file"),
        (("bench", tmp_path / "fifo.onnx"), "no model file at"),
        (("report", tmp_path), "it is no regular file"),
        (("gate", "/dev/zero"), "it is no regular file"),
        (("device", "profiles", tmp_path / "mine.toml"), "it is no regular file"),
        (("plan", tmp_path / "mine.toml"), "it is no regular file"),
        (("sparse", "pack", "/dev/zero", "-o", tmp_path / "x"), "it is no regular file"),
        (("codebook", "unpack", tmp_path / "fifo.onnx"), "it is no regular file"),
        (("device", "calibrate", "--from", tmp_path / "report.json"), "it is no regular file"),
    ):
        done = cli(*args)
        assert (done.code, done.stdout) == (2, ""), (args, done)
        assert said in done.stderr, (args, done.stderr)


def test_bench_says_which_shape_was_wanted(cli, tiny, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((8, 5), np.float32))
    done = cli("bench", tiny, "--inputs", tmp_path / "wide.npy")
    assert (done.code, done.stdout) == (3, "")
    said = "error: tiny.onnx does not load or run: ValueError: input x takes shape [1, 4], the samples have [1, 5]\n"
    assert done.stderr == said


def test_bench_says_how_many_inputs_were_wanted(cli, tiny, samples):
    done = cli("bench", tiny, "--inputs", samples, "--inputs", samples)
    assert (done.code, done.stdout) == (3, "")
    assert done.stderr.endswith("tiny.onnx takes 1 inputs, 2 were given\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 4), np.float32), "at least one sample, found float32 [0, 4]"),
        (np.array(["a", "b"]), "wanted an array of numbers"),
        (np.float32(1), "wanted an array of numbers with at least one sample, found float32 []"),
        (None, "wanted a .npy file of numbers"),
    ],
    ids=["empty", "text", "scalar", "not npy"],
)
def test_bench_refuses_samples_that_are_none(cli, tiny, tmp_path, array, said):
    path = tmp_path / "x.npy"
    if array is None:
        path.write_text("hello")
    else:
        np.save(path, array)
    done = cli("bench", tiny, "--inputs", path)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr


def test_bench_wants_as_many_samples_for_each_input(cli, tiny, samples, tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((2, 4), np.float32))
    done = cli("bench", tiny, "--inputs", samples, "--inputs", tmp_path / "few.npy")
    assert done.code == 2
    assert f"{samples}: 8\n" in done.stderr and "few.npy: 2\n" in done.stderr


def test_bench_of_a_damaged_file_gives_the_runtimes_own_words(cli, tiny, samples, tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(tiny.read_bytes()[:40])
    done = cli("bench", damaged, "--inputs", samples)
    assert (done.code, done.stdout) == (3, "")
    assert "damaged.onnx does not load or run: " in done.stderr and "ONNXRuntimeError" in done.stderr
    assert "Traceback" not in done.stderr and "File " not in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["gone.onnx"], "no model file at gone.onnx"),
        (
            ["model.bin"],
            "cannot tell the runtime of model.bin\n  hint: known endings: .onnx, .ort, .pte, .tflite, and .toml",
        ),
        (["tiny.onnx", "--target", "a"], "--target is for a recipe"),
        (["shipped:digits_cnn", "--inputs", "samples.npy"], "--inputs is for a model FILE"),
        (["shipped:digits_cnn", "-t", "digits_onx_fp32"], "did you mean 'digits_onnx_fp32'?"),
        (["shipped:digits_cnn", "-t", "digits_onnx_fp32"], "is not built, or changed since\n  hint: pocketforge build"),
        (["tiny.onnx", "--inputs", "samples.npy", "--samples", "3"], "10<=x<=10000000"),
        (["tiny.onnx", "--inputs", "samples.npy", "--processes", "2"], "x<=1000"),
    ],
)
def test_wrong_use_of_bench_exits_2(cli, tiny, samples, monkeypatch, args, said):
    monkeypatch.chdir(tiny.parent)
    done = cli("bench", *args)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.filterwarnings("ignore:old:UserWarning")  # the model's own
def test_train_writes_weights_and_says_how_good_they_are(cli, tmp_path, own):
    recipe = own('weights = "own.safetensors"')
    done = cli("train", recipe, "--epochs", 2, "--lr", 0.02, "--json", "--progress", "json")
    assert done.code == 0, done.stderr
    found = done.json()
    assert found["weights"] == str(tmp_path / "own.safetensors") and found["parameters"] == 170
    assert Path(found["weights"]).stat().st_size > 170 * 4
    assert len(found["history"]) == 2 and 0 < found["eval_accuracy"] <= 1
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [told[0]["event"], told[-1]["event"]] == ["StepStarted", "StepFinished"]
    assert told[-2]["event"] == "StepProgress" and told[-1]["wall_s"] > 0


def test_train_needs_a_place_for_the_weights(cli, own):
    done = cli("train", own())
    assert (done.code, done.stdout) == (2, "")
    assert 'hint: set model.weights = "weights.safetensors"' in done.stderr


def test_shipped_models_are_read_and_never_written(cli, tmp_path):
    """What the other tests here rely on: a copy of a shipped recipe works from another folder."""
    copy = tmp_path / "digits"
    shutil.copytree(models_folder() / "digits_cnn", copy)
    ours = cli("plan", copy / "release.toml", "--json").json()
    shipped = cli("plan", "shipped:digits_cnn", "--json").json()
    assert [s["key"] for s in ours["steps"]] == [s["key"] for s in shipped["steps"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--device", "emulator"],
            "--device emulator needs a --profile\n  hint: pocketforge device profiles lists them",
        ),
        (["--device", "phone"], "no device is named 'phone'; known: adb, emulator, host"),
        (["--profile", "pixle4"], "no device profile is named 'pixle4'; did you mean 'pixel4'?"),
        (["--profile", "pixel4", "--cores", "huge"], "huge"),
        (["--profile", "pixel4", "--threads", "2"], "are of 1 thread, found --threads 2"),
        (["--profile", "pixel4", "--processes", "4"], "--processes is for the host"),
        (["--explain"], "--explain is of estimates on emulated devices"),
        (["--what-if", "width=0.5"], "--what-if is of estimates on emulated devices"),
        (["--profile", "pixel4", "--what-if", "depth=2"], "--what-if depth=2: wanted width=FACTOR"),
        (["--profile", "pixel4", "--clock", "9"], "--clock: wanted 0.568 to 4.26 GHz, found 9"),
        (["--cores", "big"], "--cores is for an emulated device"),
        (["--calibration", "{file}"], "--calibration is for estimates of a --profile"),
    ],
)
def test_what_bench_cannot_be_asked_of_devices(cli, tmp_path, words, said):
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    file = tmp_path / "model.tflite"
    file.write_bytes(b"\0\0\0\0TFL3: as far as anybody looks")
    done = cli("bench", file, "--inputs", tmp_path / "x.npy", *(w.format(file=file) for w in words))
    assert done.code == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
