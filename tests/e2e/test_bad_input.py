"""Whatever is wrong with what the user gave: one message on stderr that says what, the right exit code, no debris."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Done, in_process
from safetensors.numpy import load_file, save_file

from pocketforge.run.store import Store

RECIPE = """\
name = "small"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "npz:data.npz"
labels = "labels.txt"
calibration_samples = 10

[[target]]
name = "small_onnx"
runtime = "onnx"
"""

MODEL = """\
import torch
from torch import nn

def build(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
"""


@dataclass(frozen=True)
class Place:
    """A folder with a small good recipe, to spoil, and a cache that already holds what its data stage gives."""

    folder: Path
    cache: Path
    before: frozenset[str]

    def run(self, *args: object) -> Done:
        return in_process(*args, cache=self.cache, cwd=self.folder, timeout=300)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def recipe(self, *changes: tuple[str, str], more: str = "") -> None:
        text = RECIPE
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} is not once in the recipe"
            text = text.replace(old, new)
        self.write("recipe.toml", text + more)

    def refused(self, *args: object, code: int = 2, says: tuple[str, ...], stages: tuple[str, ...] = ()) -> str:
        """Run and see that it is refused: one message with every regex of `says` in it, and nothing left behind.

        stages: what finished before, and so may be stored.
        """
        done = self.run(*(args or ("check", "recipe.toml")))
        assert done.code == code, f"exit code {done.code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert len(re.findall(r"^error: ", done.stderr, re.MULTILINE | re.IGNORECASE)) == 1, done.stderr
        for words in says:
            assert re.search(words, done.stderr), f"no {words!r} in:\n{done.stderr}"
        assert len(done.stderr.splitlines()) <= 14, f"too long to be one message:\n{done.stderr}"
        self.left_nothing(stages)
        return done.stderr

    def left_nothing(self, stages: tuple[str, ...] = ()) -> None:
        assert not list(self.folder.rglob("release"))
        assert not [p for p in self.folder.rglob(".*") if p.is_file()], "half-written files"
        if self.cache.exists():
            assert list((self.cache / "v1" / "tmp").iterdir()) == []
            new = [key for key in stored(self.cache) if key not in self.before]
            assert sorted(stored(self.cache)[key] for key in new) == sorted(stages)


def stored(cache: Path) -> dict[str, str]:
    """Key → stage of every whole entry; fails on one that is not whole."""
    store = Store(cache)
    found = {}
    keys = store.keys()
    for key in keys:
        entry = store.get(key)
        assert entry is not None
        found[key] = entry.meta["stage"]
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The recipe unspoilt, checked once."""
    place = Place(tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("good_cache"), frozenset())
    random = np.random.default_rng(0)
    targets = np.arange(90, dtype=np.int64) % 3
    samples = (random.normal(size=(90, 4)) + 3 * np.eye(3, 4)[targets]).astype(np.float32)
    np.savez(place.folder / "data.npz", x=samples, y=targets)
    weights = {"0.weight": (8, 4), "0.bias": (8,), "2.weight": (3, 8), "2.bias": (3,)}
    values = {name: random.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    save_file(values, place.folder / "weights.safetensors")
    place.write("labels.txt", "red\ngreen\nblue\n")
    place.write("model.py", MODEL)
    place.recipe()
    done = place.run("check", "recipe.toml", "--json")
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["parameters"] == 67
    return place


@pytest.fixture
def place(good: Place, tmp_path: Path) -> Place:
    shutil.copytree(good.folder, tmp_path / "work")
    shutil.copytree(good.cache, tmp_path / "cache")
    return Place(tmp_path / "work", tmp_path / "cache", frozenset(stored(tmp_path / "cache")))


# The recipe file


def test_every_fault_of_a_recipe_is_told_at_once_with_its_path(place: Place) -> None:
    place.recipe(
        ('definition = "model.py"\n', 'definiton = "model.py"\n'),
        ("calibration_samples = 10", 'calibration_samples = "10"'),
        ('runtime = "onnx"', 'runtime = "onxx"'),
        more='[[budget]]\nmetric = "size_bytes"\nlimit = 1\ntarget = "small_onx"\nhard = true\n',
    )
    said = place.refused(
        says=(
            r"recipe\.toml has 5 faults:",
            r"model\.definiton: unknown key; did you mean 'definition'\?",
            r"model\.definition: missing",
            r"data\.calibration_samples: wanted an integer, found a string '10'",
            r"target\[0\]\.runtime: unknown value 'onxx'; did you mean 'onnx'\?",
            r"budget\[0\]\.hard: unknown key; known: ",
        )
    )
    assert place.refused("build", "recipe.toml", says=("5 faults",)) == said
    assert place.refused("plan", "recipe.toml", says=("5 faults",)) == said


@pytest.mark.parametrize(
    ("changes", "more", "says"),
    [
        ([('name = "small"\n', "")], "", r"name: missing"),
        (
            [("calibration_samples = 10", "calibration_samples = 0")],
            "",
            r"data: calibration_samples must be 1 to .*, found 0",
        ),
        (
            [('"npz:data.npz"', '"tfrecord:data"')],
            "",
            r"data: source must be .*imagefolder:DIR.* found 'tfrecord:data'",
        ),
        ([('runtime = "onnx"', 'runtime = "onnx"\nlayout = "NHWC"')], "", r"target\[0\]: layout NHWC is for runtime"),
        ([], '[[target]]\nname = "small_onnx"\nruntime = "tflite"\n', r"names must be unique, found 'small_onnx' 2 t"),
        ([], '[[budget]]\nmetric = "size_bytes"\nlimit = nan\n', r"budget\[0\]\.limit: wanted a finite number"),
        ([], '[[budget]]\nmetric = "size_bytes"\nlimit = 1\ntarget = "x"\n', r"no target is named 'x'; known: small_o"),
        ([], "[[target]\n", r"recipe\.toml is not valid TOML: .*line 15"),
    ],
)
def test_a_value_that_makes_no_sense(place: Place, changes: list[tuple[str, str]], more: str, says: str) -> None:
    place.recipe(*changes, more=more)
    place.refused(says=(says,))


def test_a_recipe_that_is_not_there(place: Place) -> None:
    place.refused("check", "none.toml", says=(r"no recipe file at none\.toml", r"hint: pocketforge init"))
    place.refused("build", "shipped:none", says=(r"none", r"digits_cnn"))


def test_a_recipe_that_is_no_text(place: Place) -> None:
    (place.folder / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    place.refused(says=(r"cannot read the recipe recipe\.toml: .*UTF-8",))


# Files that the recipe names


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("model.py", r"  model\.definition: no file /.*/work/model\.py"),
        ("weights.safetensors", r"  model\.weights: no file /.*/work/weights\.safetensors"),
        ("labels.txt", r"  data\.labels: no file /.*/work/labels\.txt"),
        ("data.npz", r"  data\.source: no file /.*/work/data\.npz"),
    ],
)
@pytest.mark.parametrize("command", ["check", "build"])
def test_a_file_that_is_not_there(place: Place, missing: str, says: str, command: str) -> None:
    (place.folder / missing).unlink()
    place.refused(command, "recipe.toml", says=(says,))


def test_all_missing_files_are_named_at_once(place: Place) -> None:
    for path in place.folder.iterdir():
        if path.name != "recipe.toml":
            path.unlink()
    said = place.refused(says=("the recipe names files that are not there:",))
    assert said.count("no file") == 4


def test_a_folder_where_a_file_should_be(place: Place) -> None:
    (place.folder / "weights.safetensors").unlink()
    (place.folder / "weights.safetensors").mkdir()
    place.refused(says=(r"cannot read /.*/weights\.safetensors: Is a directory",))


# Data


def test_an_empty_data_folder(place: Place) -> None:
    (place.folder / "images").mkdir()
    place.recipe(('"npz:data.npz"', '"imagefolder:images"'))
    place.refused(says=(r"data\.source: /.*/images has no class folders", r"hint: .*DIR/cat/1\.jpg"))
    (place.folder / "images" / "cat").mkdir()
    place.refused(says=(r"folders without images: cat", r"hint: .*\.jpg"))


def test_data_that_is_too_few(place: Place) -> None:
    place.recipe(("calibration_samples = 10", "calibration_samples = 1000"))
    place.refused(says=(r"too few samples: wanted 1000 for calibration", "hint: lower data.calibration_samples"))


def test_data_that_is_damaged(place: Place) -> None:
    whole = (place.folder / "data.npz").read_bytes()
    (place.folder / "data.npz").write_bytes(whole[: len(whole) // 2])
    place.refused(says=(r"data\.source: /.*/data\.npz cannot be read as npz", r"hint: .*np\.savez"))


def test_data_that_would_run_code_when_read(place: Place) -> None:
    np.savez(place.folder / "data.npz", x=np.array([SideEffect(place.folder / "ran")] * 90), y=np.zeros(90, np.int64))
    place.refused(says=(r"data\.npz cannot be read as npz: .*allow_pickle", r"hint: .*pickles\) are not read"))
    assert not (place.folder / "ran").exists()


def test_a_sample_that_is_not_a_number(place: Place) -> None:
    with np.load(place.folder / "data.npz") as samples:
        x, y = samples["x"], samples["y"]
    x[:, 2] = np.nan
    np.savez(place.folder / "data.npz", x=x, y=y)
    place.refused(says=(r"data\.source: sample '\d+' has 1 values that are NaN or infinite in input 0",))


def test_a_data_function_that_raises(place: Place) -> None:
    place.write("mine.py", "def samples():\n    rows = {}\n    return rows['train']\n")
    place.recipe(('"npz:data.npz"', '"mine.py:samples"'))
    place.refused(says=(r"samples\(\) in /.*/mine\.py raised KeyError: 'train'", r"at /.*/mine\.py:3 in samples"))


def test_labels_that_are_not_as_many_as_the_classes(place: Place) -> None:
    place.write("labels.txt", "red\ngreen\nblue\nyellow\n")
    place.refused(
        says=(r"the model has 3 outputs, there are 4 labels", "hint: fix data.labels, or build the model with"),
        stages=("data",),
    )
    place.write("labels.txt", "red\ngreen\n")
    place.refused(says=(r"has label 2, out of range: wanted 0 to 1",), stages=("data",))


# The model's code


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "def build():\n    widths = [1, 2]\n    return widths[7]\n",
            (r"build\(\) in /.*/model\.py raised IndexError: list index out of range", r"at /.*/model\.py:3 in build"),
        ),
        ("import helper\n", (r"raised ValueError: not today", r"at /.*/helper\.py:2 in <module>")),
        ("def build(:\n    pass\n", (r"/model\.py:1 is not valid Python: ",)),
        (MODEL.replace("def build", "def make"), (r"model\.py has no function build\(\)", r"hint: def build\(\*\*arg")),
    ],
    ids=["raises", "neighbour", "syntax", "no build"],
)
def test_a_definition_that_fails(place: Place, text: str, says: tuple[str, ...]) -> None:
    place.write("helper.py", "x = 1\nraise ValueError('not today')\n")
    place.write("model.py", text)
    place.refused(says=says)


def test_a_definition_that_ends_its_process(place: Place) -> None:
    place.write("model.py", "import os\ndef build():\n    print('last words', flush=True)\n    os._exit(7)\n")
    said = place.refused(
        code=3,
        says=(r"error: reference trunk: the process of reference\[trunk\] ended with exit code 7 before it was done",),
    )
    log = re.search(r"^  log: (.*)$", said, re.MULTILINE)
    assert log is not None
    assert Path(log[1]).read_text() == "last words\n"
    shutil.rmtree(Path(log[1]).parent)


def test_arguments_that_build_does_not_take(place: Place) -> None:
    place.recipe(('definition = "model.py"', 'definition = "model.py"\nargs = { depth = 3 }'))
    place.refused(says=(r"raised TypeError: build\(\) got an unexpected keyword argument 'depth'",))


BRANCH = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        if y.sum() > 0:
            return y
        return -y

def build():
    return Net()
"""


def test_control_flow_on_values_is_shown_where_it_is(place: Place) -> None:
    place.recipe(('weights = "weights.safetensors"\n', ""))
    place.write("model.py", BRANCH)
    place.refused(
        says=(
            r"the model cannot be traced with input \[1, 4\]",
            r"at /.*/model\.py:11 in forward",
            r"hint: .*no branching on values",
        )
    )


def test_an_input_shape_that_the_model_does_not_take(place: Place) -> None:
    place.recipe(("[data]", "[[model.input]]\nshape = [1, 5]\n\n[data]"))
    place.refused(says=(r"the model takes \[5\] float32, the preprocessed samples are \[4\]", r"\[\[model\.input\]\]"))
    place.recipe(("[data]", "[[model.input]]\nshape = [4]\n\n[data]"))
    place.refused(says=(r"model\.input\[0\]: shape must begin with a batch of 1",))


def test_samples_of_a_shape_that_the_layers_do_not_take(place: Place) -> None:
    targets = np.arange(90) % 3
    np.savez(place.folder / "data.npz", x=np.eye(90, 6, dtype=np.float32), y=targets)
    place.recipe(("calibration_samples = 10", "calibration_samples = 2\neval_fraction = 0.1"))
    place.refused(
        says=(r"cannot be traced with input \[1, 6\]: .*", r"\[1, 6\] X \[4, 8\]", r"hint: .*input shape"),
        stages=("data",),
    )


# Weights


def test_weights_that_do_not_fit_the_definition(place: Place) -> None:
    values = load_file(place.folder / "weights.safetensors")
    values["head.weight"] = values.pop("2.bias")
    values["0.weight"] = np.zeros((9, 4), np.float32)
    save_file(values, place.folder / "weights.safetensors")
    place.refused(
        "build",
        "recipe.toml",
        says=(
            r"model\.weights: /.*/weights\.safetensors does not fit the model \(4 entries\):",
            r"  1 missing: 2\.bias",
            r"  1 unexpected: head\.weight",
            r"  1 of another shape: 0\.weight \[9, 4\] instead of \[8, 4\]",
            r"hint: is it another version of the model",
        ),
    )
    report = json.loads((place.folder / "build" / "small" / "report.json").read_text())
    assert (report["verdict"], report["targets"][0]["status"]) == ("ERROR", "failed")


def test_weights_that_are_not_numbers(place: Place) -> None:
    values = load_file(place.folder / "weights.safetensors")
    values["2.weight"][1, 1] = np.nan
    save_file(values, place.folder / "weights.safetensors")
    place.refused(says=(r"weights\.safetensors has NaN or infinite values:\n  1 tensors: 2\.weight", r"hint: .*an e"))


def test_damaged_safetensors(place: Place) -> None:
    path = place.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    place.refused(says=(r"model\.weights: /.*/weights\.safetensors is not a whole safetensors file: ",))


class SideEffect:
    """Unpickling one makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def as_checkpoint(place: Place) -> dict[str, Any]:
    import torch

    return {k: torch.from_numpy(v) for k, v in load_file(place.folder / "weights.safetensors").items()}


def use_checkpoint(place: Place, content: object, name: str = "weights.pt") -> None:
    import torch

    torch.save(content, place.folder / name)
    place.recipe(('weights = "weights.safetensors"', f'weights = "{name}"'))


def test_a_plain_checkpoint_is_taken(place: Place) -> None:
    wanted = place.run("check", "recipe.toml", "--json").json()
    assert wanted.pop("weights") == {"file": "weights.safetensors", "key": ".", "done": []}
    use_checkpoint(place, {"state_dict": as_checkpoint(place), "epoch": 7})
    done = place.run("check", "recipe.toml", "--json")
    assert done.code == 0, done.stderr
    found = done.json()
    assert found.pop("weights") == {"file": "weights.pt", "key": "state_dict", "done": ["taken from 'state_dict'"]}
    assert found == wanted


def test_a_pickle_that_runs_code_is_refused_and_not_run(place: Place) -> None:
    use_checkpoint(place, {**as_checkpoint(place), "extra": SideEffect(place.folder / "ran")})
    place.refused(
        says=(
            r"/weights\.pt is a pickle that runs code when it is loaded, not plain weights \(it names \w+\.mkdir\)",
            r"hint: save plain weights, where you trained the model:",
            r"save_file\(",
        )
    )
    assert not (place.folder / "ran").exists()
    # The file would have done it, so the refusal above was one.
    import torch

    torch.load(place.folder / "weights.pt", weights_only=False)
    assert (place.folder / "ran").exists()


def test_a_bare_pickle_is_not_run_either(place: Place) -> None:
    (place.folder / "weights.pkl").write_bytes(pickle.dumps({"0.weight": SideEffect(place.folder / "ran")}))
    place.recipe(('"weights.safetensors"', '"weights.pkl"'))
    place.refused(says=(r"model\.weights: /.*/weights\.pkl is (a pickle that runs|not a whole)", r"hint: save plain w"))
    assert not (place.folder / "ran").exists()


def test_averaged_weights_beside_raw_ones_are_chosen_and_the_choice_is_kept(place: Place) -> None:
    wanted = place.run("check", "recipe.toml", "--json").json()
    raw = as_checkpoint(place)
    averaged = {f"module.{name}": value for name, value in raw.items()}
    use_checkpoint(place, {"model": {name: value + 1 for name, value in raw.items()}, "ema": {"module": averaged}})
    place.refused(
        says=(
            r"/weights\.pt holds several weights that fit the model, and they differ: 'model', 'ema",
            r'hint: choose: weights_key = "model" or weights_key = "ema',
        )
    )
    place.recipe(('weights = "weights.safetensors"', 'weights = "weights.pt"\nweights_key = "swa"'))
    place.refused(
        says=(r"model\.weights_key: /.*/weights\.pt has no weights under 'swa'; it holds 'model' \(4 tensors\)",)
    )
    place.recipe(('weights = "weights.safetensors"', 'weights = "weights.pt"\nweights_key = "ema"'))
    found = place.run("check", "recipe.toml", "--json").json()
    weights = found.pop("weights")
    assert weights["file"] == "weights.pt" and weights["key"].startswith("ema")
    assert found == {name: value for name, value in wanted.items() if name != "weights"}
    words = f"weights weights.pt: {'; '.join(weights['done'])}"
    assert re.sub(r"\s+", " ", place.run("check", "recipe.toml").stdout).count(words) == 1
    assert place.run("plan", "recipe.toml", "--json").json()["weights"] == weights
    assert re.sub(r"\s+", " ", place.run("plan", "recipe.toml").stdout).count(words) == 1
    done = place.run("build", "recipe.toml")
    assert done.code == 0, done.stderr
    assert re.sub(r"\s+", " ", done.stdout).count(words) == 1
    out = place.folder / "build" / "small"
    assert json.loads((out / "report.json").read_text())["reference"]["weights"] == weights
    assert json.loads((out / "release" / "small_onnx.json").read_text())["weights"] == weights


def test_a_checkpoint_without_a_state_dict(place: Place) -> None:
    use_checkpoint(place, {"epoch": 3, "loss": [1.0, 0.5]})
    place.refused(says=(r"weights\.pt is not a state dict: wanted tensors by name", r"hint: save plain weights"))


# A traced graph


@pytest.fixture(scope="module")
def traced(good: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    values = load_file(good.folder / "weights.safetensors")
    module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    path = tmp_path_factory.mktemp("traced") / "model.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 4),)), path)
    return path


def test_a_pt2_is_taken_and_a_damaged_one_refused(place: Place, traced: Path) -> None:
    wanted = place.run("check", "recipe.toml", "--json").stdout
    shutil.copy(traced, place.folder)
    place.recipe(('definition = "model.py"\nweights = "weights.safetensors"', 'definition = "model.pt2"'))
    done = place.run("check", "recipe.toml", "--json")
    assert done.code == 0, done.stderr
    # It holds its weights: none were read.
    assert json.loads(done.stdout) == {k: v for k, v in json.loads(wanted).items() if k != "weights"}
    place = Place(place.folder, place.cache, frozenset(stored(place.cache)))
    whole = traced.read_bytes()
    (place.folder / "model.pt2").write_bytes(whole[: len(whole) // 2])
    place.refused(says=(r"model\.definition: /.*/model\.pt2 is not a whole torch\.export archive: ", "hint: torch"))


def test_a_pt2_with_weights_beside_it(place: Place, traced: Path) -> None:
    shutil.copy(traced, place.folder)
    place.recipe(('definition = "model.py"', 'definition = "model.pt2"'))
    place.refused(says=(r"model: a \.pt2 definition holds its own weights",))


# Other commands


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1}'])
@pytest.mark.parametrize("command", ["report", "gate"])
def test_a_report_that_is_none(place: Place, command: str, text: str) -> None:
    place.write("report.json", text)
    place.refused(command, "report.json", says=(r"cannot read the report report\.json: \S+", "hint: pocketforge build"))


@pytest.mark.parametrize("command", ["report", "gate"])
def test_a_report_that_is_not_there(place: Place, command: str) -> None:
    place.refused(command, ".", says=(r"no report at report\.json", "hint: pocketforge build writes one"))


@pytest.mark.parametrize("name", ["model.pte", "model.tflite", "model.onnx", "model.ort"])
def test_inspect_on_garbage(place: Place, name: str) -> None:
    for content in (b"", b"garbage", os.urandom(5000)):
        (place.folder / name).write_bytes(content)
        place.refused("inspect", name, says=(re.escape(name),))


def test_inspect_on_another_kind_of_file_or_none(place: Place) -> None:
    place.refused("inspect", "model.py", says=(r"model\.py", r"\.tflite"))
    place.refused("inspect", "none.onnx", says=(r"none\.onnx",))


def test_bench_of_what_is_not_built(place: Place) -> None:
    place.refused("bench", "recipe.toml", says=(r"target 'small_onnx' is not built", r"hint: pocketforge build"))
    place.refused("bench", "recipe.toml", "-t", "small_onx", says=(r"no target is named 'small_onx'; did you mean",))
    place.refused("bench", "model.py", says=(r"cannot tell the runtime of model\.py", r"hint: known endings: \.onnx"))
    place.write("model.onnx", "garbage")
    place.refused("bench", "model.onnx", says=(r"model\.onnx: wanted a whole \.onnx file", "hint: Copy or download"))
    np.save(place.folder / "x.npy", np.zeros((20, 4), np.float32))
    place.refused("bench", "model.onnx", "--inputs", "x.npy", code=3, says=(r"model\.onnx.*INVALID_PROTOBUF",))


def test_init_does_not_write_over_a_file(place: Place) -> None:
    before = (place.folder / "recipe.toml").read_text()
    place.refused("init", "model.py", says=(r"recipe\.toml exists", r"hint: .*--recipe, or --force"))
    assert (place.folder / "recipe.toml").read_text() == before


def test_init_on_the_wrong_kind_of_file(place: Place) -> None:
    place.refused(
        "init", "weights.safetensors", "-o", "new.toml",
        says=(r"wanted a model definition, .*, found weights\.safetensors", r"hint: .*--weights"),
    )  # fmt: skip
    place.refused("init", "none.py", says=(r"there is no none\.py",))
    assert not (place.folder / "new.toml").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--keep-bytes", "12potatoes"], r"wanted a number and a unit, as in 5GB .*; found '12potatoes'"),
        (["--older-than", "soon"], r"wanted a number and a unit, as in 30d .*; found 'soon'"),
    ],
)
def test_cache_clear_with_a_limit_that_is_none(place: Place, args: list[str], says: str) -> None:
    place.refused("cache", "clear", *args, says=(says,))
    assert set(stored(place.cache)) == place.before


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["biuld"], r"no command 'biuld'; did you mean 'build'\?"),
        (["build", "recipe.toml", "--job", "2"], r"No such option.*--job.*--jobs"),
        (["build", "recipe.toml", "--jobs", "many"], r"'many' is not a valid integer"),
        (["build"], r"Missing argument 'RECIPE'"),
        (["device", "setup", "iphone"], r"nothing named 'iphone' can be set up\n  hint: known: tflite-runtime"),
    ],
)
def test_wrong_usage(place: Place, args: list[str], says: str) -> None:
    place.refused(*args, says=(says,))


def test_training_a_recipe_that_names_no_weights(place: Place) -> None:
    place.recipe(('weights = "weights.safetensors"\n', ""))
    place.refused("train", "recipe.toml", says=(r"model\.weights must name the \.safetensors file to write", "hint: "))
