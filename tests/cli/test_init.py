"""`init`: the recipe that a user starts from. Its comments are part of it: every one must be a key that works."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from warm_server import in_process

from pocketforge.commands import check
from pocketforge.commands.init import look
from pocketforge.commands.init_text import Start, recipe_text
from pocketforge.data.dataset import open_dataset
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe.device import HostDevice
from pocketforge.recipe.preprocess import Preprocess
from pocketforge.recipe.toml import load_recipe, parse_recipe
from pocketforge.registries import SOURCES
from pocketforge.results.checked import Checked
from pocketforge.specs.data import data_spec

TINY = """\
from torch import nn


def build(classes=10):
    print("building")
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, classes))
"""

FOUND = Checked(
    sampled=Sampled(
        source="digits",
        task="classification",
        labels=tuple(str(digit) for digit in range(10)),
        counts=Counts(source=100, calibration=20, train=50, eval=30, held_out=0, duplicates_dropped=3),
        ids_sha256={},
        inputs=(SampleTensor((1, 32, 32), "float32"),),
        targets=SampleTensor((), "int64"),
        preprocess=Preprocessing(None, None, ()),
        eval_histogram=None,
        notes=(),
    ),
    reference=Reference(
        parameters=1234,
        macs=5678,
        accuracy={"accuracy_top1": 0.5},
        eval_samples=30,
        inputs=(ModelTensor("input", (1, 1, 32, 32), "float32"),),
        outputs=(ModelTensor("output", (1, 10), "float32"),),
    ),
    data=(),
    targets=("a", "b"),
)
KEY = re.compile(r"# (\[+[\w.]+\]+|\w+ = .*)")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "models" / "tiny.py"
    path.parent.mkdir()
    path.write_text(TINY)
    return path


@pytest.fixture
def checked(monkeypatch):
    """`init` without its check, which has tests of its own; the recipes that it was asked to check."""
    asked = []

    def checked(recipe, cache, emit):
        asked.append(recipe)
        return FOUND

    monkeypatch.setattr(check, "check", checked)
    return asked


def test_init_writes_a_recipe_for_a_users_model_and_checks_it_for_real(model, tmp_path, warm):
    args = ("init", "models/tiny.py", "-o", "recipes.toml", "--progress", "none")
    done = in_process(*args, cache=warm, cwd=tmp_path)
    assert done.code == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == "wrote recipes.toml" and last == "next: pocketforge build recipes.toml"
    assert re.search(r"parameters +170$", done.stdout, flags=re.MULTILINE)
    assert re.search(r"inputs +input float32 \[1, 1, 32, 32\]$", done.stdout, flags=re.MULTILINE)
    assert re.search(r"accuracy_top1 +0\.\d{4}$", done.stdout, flags=re.MULTILINE)
    assert "building" not in done.stdout
    recipe = load_recipe(tmp_path / "recipes.toml")
    assert (recipe.name, recipe.model.definition) == ("tiny", "models/tiny.py")
    assert {t.runtime for t in recipe.targets} == {"executorch", "tflite", "onnx"}

    # With a mistake in the model, the recipe is still there to be mended, and the message says what is wrong.
    model.write_text(TINY.replace("16", "15"))
    done = in_process(*args, "--force", cache=warm, cwd=tmp_path)
    assert done.code == 2 and done.stdout == "wrote recipes.toml\n"
    assert "must have same reduction dim" in done.stderr and "Traceback" not in done.stderr


def test_init_for_an_exported_archive(digits_parts, tmp_path, warm):
    shutil.copyfile(digits_parts.reference / "model.pt2", tmp_path / "traced.pt2")
    done = in_process("init", "traced.pt2", cache=warm, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert re.search(r"parameters +114,666$", done.stdout, flags=re.MULTILINE)
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert recipe.model.definition == "traced.pt2" and recipe.model.weights == ""


def uncommented(text: str, *groups: int) -> str:
    """The recipe with the n-th groups of adjacent commented-out keys made real; all of them without numbers."""
    lines, group, before = [], -1, False
    for line in text.splitlines():
        found = KEY.match(line)
        group += bool(found) and not before
        before = bool(found)
        lines.append(found[1] if found and (not groups or group in groups) else line)
    return "\n".join(lines)


def groups_in(text: str) -> int:
    return len(re.findall(r"^# (\[+[\w.]+\]+|\w+ = .*)(\n# (\[+[\w.]+\]+|\w+ = .*))*", text, flags=re.MULTILINE))


@pytest.mark.parametrize("data", ["digits", "npz:samples.npz"])
@pytest.mark.parametrize(("name", "weights"), [("net.py", None), ("net.py", Path("w.safetensors")), ("net.pt2", None)])
def test_every_comment_of_the_template_is_a_key_that_works(name, weights, data):
    text = recipe_text(Start(name, weights, data, "classification", Path("recipe.toml")))
    plain = parse_recipe(text)
    number = groups_in(text)
    assert number >= 6
    for group in range(number):
        changed = uncommented(text, group)
        assert changed != text
        parse_recipe(changed)
    everything = parse_recipe(uncommented(text))
    assert everything != plain
    assert everything.model.inputs and everything.data.labels == "labels.txt" and everything.data.preprocess
    device = everything.devices[0]
    assert len(everything.budgets) == 3 and isinstance(device, HostDevice) and device.min_samples == 100
    assert {t.io for t in everything.targets} == {"float32", "int8"}
    if name == "net.py":
        assert everything.model.args == {"classes": 10} and everything.model.weights
        assert [entry.type for entry in everything.compress] == ["prune_channels", "finetune"]


def test_what_is_left_commented_out_of_a_device_is_the_default(model):
    """The template says `by default this host, one thread`: uncommenting it changes nothing."""
    text = recipe_text(Start(str(model), None, "digits", "classification", model.with_name("recipe.toml")))
    device = next(g for g in range(groups_in(text)) if uncommented(text, g).count("\n[[device]]"))
    assert parse_recipe(uncommented(text, device)) == parse_recipe(text)


def test_an_existing_file_is_kept_unless_forced(cli, model, checked):
    target = model.with_name("recipe.toml")
    target.write_text("mine")
    done = cli("init", model)
    assert (done.code, done.stdout) == (2, "")
    assert f"error: {target} exists\n  hint: give another name with --recipe, or --force" in done.stderr
    assert target.read_text() == "mine" and checked == []
    assert cli("init", model, "--force").code == 0
    assert parse_recipe(target.read_text()).name == "tiny" and len(checked) == 1


def test_paths_are_relative_to_the_recipe(cli, model, tmp_path, monkeypatch, checked):
    monkeypatch.chdir(tmp_path)
    weights, samples, recipes = (
        tmp_path / "w" / "a.safetensors",
        tmp_path / "d" / "s.npz",
        tmp_path / "recipes" / "phone",
    )
    for path in (weights, samples):
        path.parent.mkdir()
        path.touch()
    recipes.mkdir(parents=True)
    args = ("--weights", "w/a.safetensors", "--data", "npz:d/s.npz", "-o", "recipes/phone/r.toml")
    done = cli("init", "models/tiny.py", *args)
    assert done.code == 0
    found = load_recipe(recipes / "r.toml")
    assert found.model.definition == "../../models/tiny.py" and found.model.weights == "../../w/a.safetensors"
    assert found.resolve(found.model.definition) == model and found.resolve(found.model.weights) == weights
    assert found.data.source == "npz:../../d/s.npz"
    assert found == checked[0]


def test_a_data_function_is_relative_too(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = recipe_text(Start(str(model), None, "models/data.py:load", "classification", tmp_path / "r" / "recipe.toml"))
    assert parse_recipe(text).data.source == "../models/data.py:load"


def test_what_was_checked_is_shown_in_words(cli, model, checked):
    lines = cli("init", model).stdout.splitlines()
    assert "  samples          100 in the source: 50 train, 30 eval, 20 calibration, 3 duplicates dropped" in lines
    assert "  inputs           input float32 [1, 1, 32, 32]" in lines
    assert "  outputs          output float32 [1, 10]" in lines
    assert "  accuracy_top1    0.5000" in lines and "  parameters       1,234" in lines
    assert "  targets          a, b" in lines


@pytest.mark.parametrize("name", ['we"ird\\.py', "nämé.py", "a b {c}.py", "model.py", "-_.py", "[red].py"])
def test_any_file_name_gives_a_valid_recipe(cli, tmp_path, checked, name):
    path = tmp_path / "né t" / name
    path.parent.mkdir()
    path.write_text(TINY)
    done = cli("init", path)
    assert done.code == 0, done.stderr
    found = load_recipe(path.with_name("recipe.toml"))
    assert found.resolve(found.model.definition) == path
    assert re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", found.name)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        (
            "weights.safetensors",
            [],
            "wanted a model definition, a .py whose build() makes the module, a .pt2 of torch.export",
        ),
        ("net.py", ["--task", "classify"], "Invalid value for '--task': 'classify' is not one of 'classification'"),
        ("net.py", ["--data", "net.py"], "no data source reads net.py: it is a file"),
        ("net.py", ["--data", ""], "source must be digits"),
        ("net.pt2", ["--weights", "net.pt2"], "net.pt2 holds its own weights"),
        ("net.py", ["--data", "digit"], "source must be digits, cifar10:DIR"),
        ("net.py", ["-o", "no/such/folder.toml"], "cannot write no/such/folder.toml: No such file or directory"),
        ("net.py", ["--weights", "gone"], "'gone' does not exist"),
    ],
)
def test_wrong_use_is_said_and_nothing_is_written(cli, tmp_path, monkeypatch, checked, name, more, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    done = cli("init", name, *more)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr
    assert [p.name for p in tmp_path.rglob("*.toml")] == [] and checked == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.py", "there is no gone.py\n  hint: MODEL is a .py whose build()"),
        ("mobilenet_v2", "or transformers:DIR; a library's model is named with it: timm:mobilenet_v2"),
        ("timm:", "timm: names no model"),
        ("transformers:gone", "there is no gone"),
        (".", "wanted a model definition"),
    ],
)
def test_a_model_that_there_is_not_is_said(cli, tmp_path, monkeypatch, checked, name, said):
    monkeypatch.chdir(tmp_path)
    done = cli("init", name)
    assert (done.code, done.stdout) == (2, "") and said in done.stderr and checked == []


def photos(folder: Path, each: int, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Class folders of images that all differ."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for shade in range(each):
            Image.new("RGB", (4, 3), (shade, label * 50, 0)).save(folder / name / f"{shade}.png")
    return folder


def test_a_folder_is_looked_at_and_few_samples_calibrate_with_half_of_what_is_left(cli, model, tmp_path, checked):
    """100 of 80 samples were refused."""
    done = cli("init", model, "--data", photos(tmp_path / "pictures", 40))
    assert done.code == 0, done.stderr
    (recipe,) = checked
    assert recipe.data.source == "imagefolder:../pictures"
    assert open_dataset(data_spec(recipe.data, recipe.seed, recipe.task), recipe.resolve).split.train, "some are left"
    text = model.with_name("recipe.toml").read_text()
    found = re.search(
        r"^calibration_samples = (\d+) # fix the int8 ranges; (\d+) samples are not eval", text, re.MULTILINE
    )
    assert found is not None and int(found[1]) == int(found[2]) // 2 >= 20


def test_of_many_samples_a_hundred_calibrate_and_of_a_handful_all(tmp_path):
    def fitted(each: int) -> int:
        folder = photos(tmp_path / str(each), each)
        return look(Start("net.py", None, f"imagefolder:{folder}", "classification", Path("r.toml"))).calibration

    assert (fitted(200), fitted(8)) == (100, 8)
    # As many as the rest would be refused as a recipe, and none be written; so `check` tells of too few samples.
    assert fitted(1) == 8


def test_a_folder_that_nothing_reads_is_said_with_what_is_in_it(cli, model, tmp_path, checked):
    folder = tmp_path / "things"
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("1.txt", "2.txt", "list.csv", "README"):
        (folder / name).touch()
    done = cli("init", model, "--data", folder)
    assert (done.code, done.stdout) == (2, "") and checked == [] and not model.with_name("recipe.toml").exists()
    seen = "it holds 1 folder (a) and 4 files (2 .txt, 1 without ending, 1 .csv)"
    assert f"error: no data source reads {folder}: {seen}\n" in done.stderr
    assert f"  imagefolder: {folder} has folders without images: a (4 files passed over: " in done.stderr
    assert "  cifar10: " in done.stderr and "hint: say what it is (--data KIND:PLACE" in done.stderr
    assert "pocketforge docs data" in done.stderr and "  csv: " in done.stderr


def test_folders_of_annotations_and_tables_are_known(cli, model, tmp_path, checked):
    """Sources that take a file or a folder were never tried: a COCO folder was "no data", and of a table beside its
    images the images were taken, as the one class that their folder is."""
    coco = tmp_path / "coco"
    photos(coco, 2, ("images",))
    (coco / "annotations").mkdir()
    images = [{"id": n, "file_name": f"{n}.png", "width": 4, "height": 3} for n in range(2)]
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}]
    told = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (coco / "annotations/instances_val.json").write_text(json.dumps(told))
    done = cli("init", model, "--data", coco)
    assert done.code == 0 and [each.data.source for each in checked] == ["coco:../coco"], done.stderr
    table = photos(tmp_path / "table", 2, ("images",))
    (table / "rows.csv").write_text("path,label\nimages/0.png,a\nimages/1.png,b\n")
    done = cli("init", model, "--data", table, "--force")
    assert done.code == 2 and f"{table} can be read as imagefolder:{table} and as csv:{table}\n" in done.stderr


def test_a_task_chooses_among_the_targets_of_a_source_or_is_refused(cli, model, tmp_path, checked):
    (tmp_path / "shop.json").write_text('{"images": [], "annotations": [], "categories": []}')
    given = ("--data", f"coco:{tmp_path}", "--force")
    assert cli("init", str(model), *given, "--task", "segmentation").code == 0
    assert cli("init", str(model), *given, "--task", "detection").code == 0
    assert [recipe.outputs[0].role for recipe in checked] == ["segmentation", "boxes"]
    assert [recipe.budgets[0].metric for recipe in checked] == ["miou_drop", "map_drop"]
    refused = cli("init", str(model), *given, "--task", "classification")
    assert refused.code == 2 and "--task classification: data source coco has boxes" in refused.stderr
    assert "it is for --task detection or segmentation" in refused.stderr
    refused = cli("init", str(model), "--force", "--task", "detection")
    assert "--task detection: data source digits has label" in refused.stderr
    assert "it is for --task classification or regression" in refused.stderr


def test_images_and_their_masks_are_no_two_classes_unless_the_task_says_so(cli, model, tmp_path, checked):
    for name in ("images", "masks"):
        (tmp_path / "shop" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8)).save(tmp_path / "shop" / name / f"{number}.png")
    for task in ((), ("--task", "segmentation"), ("--task", "classification")):
        assert cli("init", model, "--data", tmp_path / "shop", "--force", *task).code == 0
    kinds = [recipe.data.source.partition(":")[0] for recipe in checked]
    assert kinds == ["masks", "masks", "imagefolder"]


def test_what_two_sources_read_is_not_guessed(cli, model, tmp_path, monkeypatch, checked):
    monkeypatch.setattr(SOURCES, "_added", {"albums": dataclasses.replace(SOURCES["imagefolder"])})
    folder = photos(tmp_path / "pictures", 1)
    done = cli("init", model, "--data", folder)
    assert done.code == 2 and checked == []
    assert f"{folder} can be read as imagefolder:{folder} and as albums:{folder}\n  hint: say which" in done.stderr


def test_a_regression_has_a_budget_that_it_can_keep(cli, model, checked):
    assert cli("init", model, "--task", "regression").code == 0
    (recipe,) = checked
    assert recipe.task == "regression" and [each.metric for each in recipe.budgets] == ["parity_sqnr_db"]


FAKE_TIMM = """\
from types import SimpleNamespace
__version__ = "9"
def list_models(): return ["tiny_net"]
def list_pretrained(): return ["tiny_net.some_data"]
def get_pretrained_cfg(name):
    return SimpleNamespace(input_size=(3, 96, 128), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.25))
"""


def test_a_model_of_a_library_has_its_own_preprocessing_and_the_data_s_classes(cli, tmp_path, monkeypatch, checked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "timm.py").write_text(FAKE_TIMM)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setitem(sys.modules, "timm", None)  # whatever is imported then goes with the test
    del sys.modules["timm"]
    photos(tmp_path / "pictures", 12, ("a", "b", "c"))
    done = cli("init", "timm:tiny_net.some_data", "--data", "pictures")
    assert done.code == 0, done.stderr
    assert "timm:tiny_net.some_data has random weights: nothing is downloaded; give trained ones" in done.stderr
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert (recipe.name, recipe.model.definition) == ("tiny_net_some_data", "timm:tiny_net.some_data")
    assert recipe.model.args == {"num_classes": 3} and isinstance(recipe.data.preprocess, Preprocess)
    assert recipe.data.preprocess.resize == (96, 128) and recipe.data.preprocess.mean == (0.5, 0.4, 0.3)
    assert parse_recipe(uncommented((tmp_path / "recipe.toml").read_text())).compress

    done = cli("init", "timm:tiny_nett", "-o", "other.toml")
    assert (done.code, done.stdout) == (2, "") and "timm 9 has no model 'tiny_nett'" in done.stderr
    assert not (tmp_path / "other.toml").exists()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Somebody at a terminal, who says this."""
    monkeypatch.delenv("CI", raising=False)
    stdin, stderr = io.StringIO("".join(f"{answer}\n" for answer in answers)), sys.stderr
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(type(stderr), "isatty", lambda self: True, raising=False)


def test_on_a_terminal_what_is_not_given_is_asked_for_until_it_is_right(cli, tmp_path, monkeypatch, checked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(TINY)
    photos(tmp_path / "pictures", 8)
    answers = ("nett.py", "net.py", "gone.safetensors", "", "picture", "pictures", "regresion", "regression")
    answering(monkeypatch, *answers)
    done = cli("init")
    assert done.code == 0, done.stderr
    (recipe,) = checked
    assert (recipe.data.source, recipe.task, recipe.model.weights) == ("imagefolder:pictures", "regression", "")
    for said in (
        "there is no nett.py",
        "there is no file gone.safetensors",
        "source must be",
        "did you mean 'regression'",
    ):
        assert said in done.stderr
    assert done.stdout.startswith("wrote recipe.toml\n"), "questions are on stderr"


@pytest.mark.parametrize("how", ["CI", "--no-ask", "no terminal"])
def test_otherwise_nobody_is_asked(cli, model, monkeypatch, checked, how):
    answering(monkeypatch)
    if how == "CI":
        monkeypatch.setenv("CI", "true")
    elif how == "no terminal":
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    more = [how] if how == "--no-ask" else []
    done = cli("init", *more)
    assert (done.code, done.stdout) == (2, "") and "Missing argument 'MODEL'" in done.stderr
    assert cli("init", model, *more).code == 0
    assert checked[0].data.source == "digits" and checked[0].task == "classification"


def test_a_recipe_that_is_there_is_said_before_all_is_asked(cli, tmp_path, monkeypatch, checked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(TINY)
    (tmp_path / "recipe.toml").touch()
    answering(monkeypatch, "net.py")
    done = cli("init")
    assert done.code == 2 and "recipe.toml exists" in done.stderr and "weights" not in done.stderr


def test_who_leaves_a_question_has_interrupted(cli, monkeypatch, checked):
    answering(monkeypatch)
    assert cli("init").code == 130 and checked == []


@pytest.mark.parametrize("kind", SOURCES.ours)
def test_each_source_has_a_recipe_that_is_one_with_and_without_its_comments(kind, model):
    data = f"{kind}:{SOURCES[kind].place}".rstrip(":") if kind != "function" else "data.py:load"
    text = recipe_text(Start(str(model), None, data, "classification", model.with_name("recipe.toml")))
    recipe = parse_recipe(text)
    assert recipe.data.columns is None and recipe.data.split_folders is None
    for line in SOURCES[kind].init:
        assert f"\n# {line}\n" in text
    told = text
    for line in SOURCES[kind].init:
        told = told.replace(f"# {line}", line)
    again = parse_recipe(told)
    assert (again.data != recipe.data) == bool(SOURCES[kind].init)
