"""Which folders are classes and which are splits, which files are read, and what is said of the others."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pocketforge.data import look_at, open_source
from pocketforge.data.image_files import image_formats
from pocketforge.data.image_layout import list_images
from pocketforge.data.split_words import role_of, roles_of
from pocketforge.errors import ModelError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Data, SplitFolders
from pocketforge.recipe.toml import load_recipe
from pocketforge.specs.data import data_spec
from pocketforge.stages.data import run


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (shade, 1, 2)).save(file, "PNG")
    return file.getvalue()


PNG = png()


def write(root: Path, *names: str, content: bytes = PNG) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if path.suffix else path.mkdir()


def grid(*folders: str, classes: tuple[str, ...] = ("cat", "dog")) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}/1.png" for folder in folders for name in classes)


def seen(root: Path, split_folders: dict | None = None) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """The classes, and what each folder right under the source was taken as."""
    found = list_images(root, split_folders)
    return found.classes, {path.relative_to(root).parts[0]: split for split, _, path in found.images}


CATS = ("cat", "dog")
SPLITS = [
    (("train", "valid"), ("train", "valid")),
    (("Train", "Val"), ("Train", "Val")),
    (("TRAINING", "validation"), ("TRAINING", "validation")),
    (("trn", "dev"), ("trn", "dev")),
    (("train2017", "val2017"), ("train2017", "val2017")),
    (("train_set", "test_set"), ("train_set", "test_set")),
    (("images_train", "images_valid"), ("images_train", "images_valid")),
    (("TrainImages", "TestImages"), ("TrainImages", "TestImages")),
    (("trainset", "hold-out"), ("trainset", "hold-out")),
    (("ILSVRC2012_img_train", "ILSVRC2012_img_val"), ("ILSVRC2012_img_train", "ILSVRC2012_img_val")),
    (("pets-training", "pets-evaluation"), ("pets-training", "pets-evaluation")),
    (("train", "valid", "test"), ("train", "test")),
    (("train", "dev", "Testing", "eval"), ("train", "eval")),
]


@pytest.mark.parametrize(("folders", "used"), SPLITS)
def test_splits_in_any_usual_word_and_case(tmp_path, folders, used):
    write(tmp_path, *grid(*folders))
    classes, taken = seen(tmp_path)
    assert classes == CATS and taken == {used[0]: "train", used[1]: "eval"}
    note = list_images(tmp_path).notes[0]
    assert note.startswith(f"split folders: {used[0]}/ is trained on, {used[1]}/ is evaluated")
    for left in sorted({*folders} - {*used}):
        assert f"{left}/ is left out" in note


def test_words_that_are_no_splits():
    for name in (
        "trainer",
        "vale",
        "contest",
        "bus",
        "station",
        "train_station",
        "Devon",
        "latest",
        "",
        "2017",
        "test_tube",
    ):
        assert role_of(name) is None, name
    assert roles_of(["train_a", "val_b"]) == {} and roles_of(["a_train", "a_val"]) == {
        "a_train": "train",
        "a_val": "val",
    }


CLASSES = {
    "vehicles": (("train/1.png", "car/1.png", "bus/1.png"), ("bus", "car", "train")),
    "vehicles in folders": (
        (*grid("train", classes=("steam", "diesel")), *grid("car", classes=("suv", "van")), *grid("bus")),
        ("bus", "car", "train"),
    ),
    "both words, images right in them": (("train/1.png", "test/2.png"), ("test", "train")),
    "deeper": (("cat/more/1.png", "dog/1.png", "dog/x/y/2.png"), CATS),
    "one subfolder each": (("cat/images/1.png", "dog/images/1.png"), CATS),
    "train only has more inside": (("train/1.png", "train/old/2.png", "car/1.png"), ("car", "train")),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_that_stay_classes(tmp_path, name):
    files, wanted = CLASSES[name]
    write(tmp_path, *files)
    classes, taken = seen(tmp_path)
    assert classes == wanted and set(taken.values()) == {None}


REFUSED = {
    "unknown words": (grid("fold1", "fold2"), r"fold1/, fold2/ hold folders of the same names \(cat, dog\)"),
    "foreign words": (grid("Lernen", "Probe"), "Lernen/, Probe/ hold folders of the same names"),
    "a word beside": (grid("train_a", "val_b"), "as splits do, and are not named as splits"),
    "nothing in common": (
        (*grid("train"), *grid("test", classes=("a", "b"))),
        "no class folder in common: train/ holds",
    ),
    "new classes": ((*grid("train"), *grid("val", classes=("cat", "Dog"))), r"val/ has classes .* has not \(Dog\)"),
    "test without labels": ((*grid("train"), "test/1.png", "test/2.png"), "train/ is named .*, test/ is not like that"),
    "images beside": ((*grid("train", "val"), "train/0.png", "val/0.png"), r"2 images beside them \(train/0.png\)"),
    "one image beside": ((*grid("train"), "train/0.png", "car/1.png"), r"train/ hold .* 1 image beside them"),
    "unlabelled": ((*grid("train"), "unlabelled/1.png"), "train/ is named .*, unlabelled/ is not like that"),
    "one more fold": (grid("train", "val", "extra"), "extra/ is not like that"),
    "one split, an unknown word": (grid("train", "later"), "later/ is not like that"),
    "twice": (grid("train", "training", "val"), "both train/ and training/ are named as the train split"),
    "val twice": (grid("train", "val", "valid"), "both val/ and valid/ are named as the val split"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, name):
    files, words = REFUSED[name]
    write(tmp_path, *files)
    with pytest.raises(ModelError, match=f"can be read in two ways: .*{words}") as caught:
        list_images(tmp_path)
    assert "split_folders = { train = [" in caught.value.hint and "split_folders = {}" in caught.value.hint
    # What the hint says helps: every folder a class, or the splits by name.
    assert set(seen(tmp_path, {"train": (), "eval": ()})[1].values()) == {None}


def test_other_layouts_are_refused_with_their_remedy(tmp_path):
    write(tmp_path / "a", *grid("pets"))
    with pytest.raises(ModelError, match=r"one folder, pets/, that holds cat, dog") as caught:
        list_images(tmp_path / "a")
    assert "imagefolder:…/pets" in caught.value.hint
    write(tmp_path / "b", *grid("images/train", "images/val"), "labels/train/1.txt")
    with pytest.raises(ModelError, match=r"one folder, images/, that holds train, val"):
        list_images(tmp_path / "b")
    write(tmp_path / "c", *grid("cat", "dog", classes=("train", "test")))
    with pytest.raises(ModelError, match=r"cat/ holds test/, train/: splits inside of a class are not read"):
        list_images(tmp_path / "c")
    write(tmp_path / "d", "train/images/1.png", "valid/images/2.png")
    with pytest.raises(ModelError, match=r"train/, valid/ hold no class folders, only images/"):
        list_images(tmp_path / "d")


def test_the_recipe_says_which_folders_are_splits(tmp_path):
    write(tmp_path, *grid("fold1", "fold2", "fold3"), *grid("more/new", classes=("cat", "dog", "fox")))
    classes, taken = seen(tmp_path, {"train": ("fold1", "fold2"), "eval": ("fold3",)})
    assert classes == CATS and taken == {"fold1": "train", "fold2": "train", "fold3": "eval"}
    found = list_images(tmp_path, {"train": ("fold1",), "eval": ("more/new",)})
    assert found.classes == ("cat", "dog", "fox")
    assert found.notes == (
        "split folders: fold1/ is trained on, new/ is evaluated, fold2/ is left out, fold3/ is left out",
        "fold1/ has no images of fox",
    )
    with pytest.raises(ModelError, match=r"data\.split_folders\.eval: there is no folder .*/nix") as caught:
        list_images(tmp_path, {"train": ("fold1",), "eval": ("nix",)})
    assert "fold1, fold2, fold3, more" in caught.value.hint
    write(tmp_path, "flat/1.png")
    with pytest.raises(ModelError, match=r"flat holds images that are in no class folder: 1\.png"):
        list_images(tmp_path, {"train": ("flat",), "eval": ()})
    for wrong, words in (
        ({"eval": ("a",)}, "eval without train"),
        ({"train": ("../a",)}, "wanted names of folders"),
        ({"train": ("a",), "eval": ("a",)}, "wanted each folder once"),
    ):
        with pytest.raises(ValueError, match=words):
            SplitFolders(**wrong)
    with pytest.raises(ValueError, match="split_folders is for source imagefolder"):
        Data("digits", split_folders=SplitFolders())


def test_a_class_that_only_trains_is_named(tmp_path):
    write(tmp_path, *grid("train", classes=("cat", "dog", "fox")), *grid("val"), "annotations/a.json")
    found = list_images(tmp_path)
    assert found.classes == ("cat", "dog", "fox")
    assert found.notes[:2] == (
        "split folders: train/ is trained on, val/ is evaluated, annotations/ is left out",
        "val/ has no images of fox",
    )


def test_what_is_said_can_be_printed(tmp_path):
    write(tmp_path, *grid("train", "val"))
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    note = list_images(tmp_path).notes[0]
    assert note.encode("utf-8").endswith(rb", \udcff/ is left out")


def test_accents_are_one_name_in_both_forms(tmp_path):
    write(
        tmp_path, *grid("train", classes=("caf\u00e9", "th\u00e9")), *grid("val", classes=("cafe\u0301", "the\u0301"))
    )
    assert list_images(tmp_path).classes == ("caf\u00e9", "th\u00e9")


def test_every_ending_that_pillow_reads(tmp_path):
    formats = image_formats()
    for ending in (
        ".jfif",
        ".jpe",
        ".jpg",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".jp2",
        ".avif",
        ".tga",
        ".pnm",
        ".mpo",
    ):
        assert ending in formats, ending
    # Not decoded by Pillow itself: they are said to be passed over.
    assert not {".eps", ".ps", ".wmf", ".h5", ".mpg", ".pdf", ".svg", ".heic", ".npy", ".txt"} & set(formats)
    names = [f"x/{number}{ending.upper() if number % 2 else ending}" for number, ending in enumerate(sorted(formats))]
    write(tmp_path, *names)
    source = open_source("imagefolder:.", lambda path: tmp_path / path)
    assert sorted(source.ids) == sorted(names)
    # A PNG under every one of these names: the content says what it is.
    assert {source.sample(index)[0][0].shape for index in range(len(source))} == {(2, 3, 3)}


def test_files_that_are_passed_over_are_counted(tmp_path):
    write(
        tmp_path,
        "cat/1.png",
        "cat/Thumbs.db",
        "cat/a.txt",
        "cat/b.TXT",
        "cat/c.heic",
        "dog/1.png",
        "dog/.x.png",
        "0.png",
    )
    write(tmp_path, "dog/.git/x.png")
    (tmp_path / "cat" / "README").write_text("no ending")
    note = list_images(tmp_path).notes[-1]
    assert note == (
        "8 files passed over: 2 .txt, 1 .heic, 1 Thumbs.db and the like, 1 hidden, 1 hidden folders, "
        "1 images outside the class folders, 1 without an ending"
    )
    write(tmp_path, *(f"dog/1.e{number}" for number in range(12)))
    note = list_images(tmp_path).notes[-1]
    assert (
        note.startswith("20 files passed over: 2 .txt, ") and note.endswith(", 11 of other kinds") and len(note) < 250
    )
    shutil.rmtree(tmp_path / "cat")
    write(tmp_path, "cat/1.heic", "cat/2.HEIC")
    with pytest.raises(ModelError, match=r"folders without images: cat \(.* 2 \.heic"):
        list_images(tmp_path)


def test_what_is_no_regular_file_is_named(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    wrong = tmp_path / "dog" / "2.png"
    os.mkfifo(wrong)
    with pytest.raises(ModelError, match=r"the image .*dog/2\.png is no regular file"):
        list_images(tmp_path)
    wrong.unlink()
    wrong.symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"the image .*dog/2\.png is no regular file"):
        list_images(tmp_path)
    wrong.unlink()
    wrong.symlink_to(tmp_path / "none.png")
    with pytest.raises(ModelError, match=r"the image .*dog/2\.png is no regular file \(a broken link"):
        list_images(tmp_path)
    wrong.unlink()
    (tmp_path / "dog" / "up").symlink_to(tmp_path / "dog")
    with pytest.raises(ModelError, match=r"dog/up.* is a link to a folder above itself"):
        list_images(tmp_path)
    (tmp_path / "dog" / "up").unlink()
    write(tmp_path / "elsewhere", "3.png")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(list_images(tmp_path / "set").images) == 1  # links to folders are followed


RECIPE = """
name = "n"
[model]
definition = "model.py"
[data]
source = "imagefolder:photos"
calibration_samples = 8
split_folders = {}
[[target]]
name = "t"
runtime = "onnx"
"""


def test_file_names_that_are_not_utf8(tmp_path):
    photos = tmp_path / "photos"
    write(photos, "b/x.png")
    for number in range(16):
        write(photos, f"a/{number}.png", content=png(number))
    os.rename(photos / "a" / "0.png", os.fsencode(photos / "a") + b"/\xff\xfe.png")
    (tmp_path / "model.py").write_text("def build(): ...")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "recipe.toml")
    (tmp_path / "v1").mkdir()
    plan = make_plan(recipe, gather(recipe, tmp_path))
    assert make_plan(recipe, gather(recipe, tmp_path)).data == plan.data  # by remembered hashes
    # The name counts: another one is another split, so another key.
    os.rename(os.fsencode(photos / "a") + b"/\xff\xfe.png", os.fsencode(photos / "a") + b"/\xff\xfd.png")
    assert make_plan(recipe, gather(recipe, tmp_path)).data != plan.data
    out = tmp_path / "out"
    out.mkdir()
    run({"data_root": tmp_path}, data_spec(recipe.data, 0, "classification"), out, lambda *_: None)
    assert json.loads((out / "data.json").read_text("utf-8"))["counts"]["source"] == 17
    (photos / "a").joinpath("1.png").write_bytes(b"no image")
    os.rename(photos / "a" / "1.png", os.fsencode(photos / "a") + b"/\xe9.png")
    source = open_source("imagefolder:photos", lambda path: tmp_path / path)
    with pytest.raises(ModelError, match=r"the image .*\.png cannot be read"):
        [source.sample(index) for index in range(17)]
    os.rename(photos / "b", os.fsencode(photos) + b"/\xe9")
    with pytest.raises(ModelError, match=r"a class folder whose name is not UTF-8: '\\udce9'"):
        gather(recipe, tmp_path)


def test_folder_names_that_all_images_share_are_in_the_key(tmp_path):
    photos = tmp_path / "photos"
    for number in range(16):
        write(photos, f"train/a/{number}.png", content=png(number))
    (tmp_path / "model.py").write_text("def build(): ...")
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("split_folders = {}", ""))
    recipe = load_recipe(tmp_path / "recipe.toml")
    keys = [make_plan(recipe, gather(recipe)).data]
    (photos / "train" / "a").rename(photos / "train" / "b")
    keys.append(make_plan(recipe, gather(recipe)).data)
    (photos / "train").rename(photos / "test")
    keys.append(make_plan(recipe, gather(recipe)).data)
    assert len({*keys}) == 3
    before = look_at("imagefolder:photos", lambda path: tmp_path / path).layout
    photos.rename(tmp_path / "moved")
    assert look_at("imagefolder:moved", lambda path: tmp_path / path).layout == before


def test_class_names_are_stored_as_they_are_and_obeyed_by_no_terminal(tmp_path):
    names = ["\x1b[31mred", "a\x85b", "c\u2028d", "right\u202eleft", "caf\u00e9 \u732b", "\x9b1m"]
    for number, name in enumerate(names):
        write(tmp_path / "d", *(f"{name}/{n}.png" for n in range(3)), content=png(number))
        for n in range(3):
            write(tmp_path / "d", f"{name}/{n}.png", content=png(number * 3 + n))
    out = tmp_path / "out"
    out.mkdir()
    data = Data("imagefolder:d", calibration_samples=4)
    run({"data_root": tmp_path}, data_spec(data, 0, "classification"), out, lambda *_: None)
    text = (out / "data.json").read_text("utf-8")
    assert json.loads(text)["labels"] == sorted(names)
    assert "caf\u00e9 \u732b" in text
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u202e")]


def test_notes_come_with_the_files(tmp_path):
    write(tmp_path / "d", *grid("train", "val"), "train/a.txt")
    found = look_at("imagefolder:d", lambda path: tmp_path / path)
    assert [path.name for path in found.paths] == ["1.png"] * 4
    assert found.notes == ("split folders: train/ is trained on, val/ is evaluated", "1 file passed over: 1 .txt")
