"""What can be wrong with a data set of each kind: one clear error, which names the file and the record."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_samples as samples
from PIL import Image
from source_samples import COLUMNS, COUNT, MAKERS, write

from pocketforge.data import open_source
from pocketforge.data.base import Source
from pocketforge.data.files import look_at
from pocketforge.errors import ModelError, PocketforgeError
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import Data

BILLION = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>'


def opened(data: Data, root: Path, labels: tuple[str, ...] = ()) -> Source:
    told = {"train": data.split_folders.train, "eval": data.split_folders.eval} if data.split_folders else None
    return open_source(
        data.source, lambda path: root / path, told, labels=labels, columns=data.columns, mask_values=data.mask_values
    )


def read_all(data: Data, root: Path, labels: tuple[str, ...] = ()) -> Source:
    look_at(data.source, lambda path: root / path, None, data.columns)
    source = opened(data, root, labels)
    for index in range(len(source)):
        source.sample(index)
    return source


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def train_json(root: Path) -> Path:
    return root / "d" / "annotations" / "instances_train2017.json"


def line(root: Path, number: int, text: str, name: str = "table.csv") -> None:
    """Line `number`, from 1, of a table."""
    path = root / "d" / name
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


def voc_xml(root: Path, number: int = 1) -> Path:
    return root / "d/VOCdevkit/VOC2012/Annotations" / f"2008_{number:06}.xml"


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert re.search(old, text), text
    path.write_text(re.sub(old, new, text, count=1))


def no_annotations(root: Path) -> None:
    for path in (root / "d/annotations").iterdir():
        edit_json(path, lambda content: content["annotations"].clear())


def no_arrow(root: Path) -> None:
    for path in (root / "d/train").glob("*.arrow"):
        truncate(path, 99)


def all_empty(root: Path) -> None:
    for path in (root / "d/labels").rglob("*.txt"):
        path.write_text("")


def grow(path: Path) -> None:
    image = Image.open(path)
    image.resize((image.width * 2, image.height)).save(path)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def rate(root: Path) -> None:
    import soundfile

    soundfile.write(root / "d/class1/3.flac", samples.sound(3), 16_000)


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


FAULTS: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("coco", "no json", lambda r: train_json(r).write_text("{"), r"instances_train2017\.json is no JSON: "),
    ("coco", "no coco", lambda r: train_json(r).write_text("[]"), r"train2017\.json has no list of objects 'images'"),
    ("coco", "an image that is not there", lambda r: (r / "d/train2017/000000000002.png").unlink(),
     r"images\[2\] names '000000000002\.png', and there is no file"),
    ("coco", "a path out of the folder",
     lambda r: edit_json(train_json(r), lambda c: c["images"][1].update(file_name="../../../x.png")),
     r"images\[1\] names .*which is not in .*/d$"),
    ("coco", "an unknown category",
     lambda r: edit_json(train_json(r), lambda c: c["annotations"][3].update(category_id=5)),
     r"annotations\[3\] \(id 101\) has category_id 5, which is no category's id"),
    ("coco", "an unknown image", lambda r: edit_json(train_json(r), lambda c: c["annotations"][0].update(image_id=99)),
     r"annotations\[0\] \(id 0\) is of image_id 99, which is no image's id"),
    ("coco", "a box outside",
     lambda r: edit_json(train_json(r), lambda c: c["annotations"][0].update(bbox=[50, 5, 9, 9])),
     r"annotations\[0\] \(id 0\) has a box outside of its image: \[50, 5, 59, 14\].*56×40"),
    ("coco", "corners for sizes",
     lambda r: edit_json(train_json(r), lambda c: c["annotations"][0].update(bbox=[5, 5, -1, 9])),
     r"has a box that ends before it begins"),
    ("coco", "three numbers", lambda r: edit_json(train_json(r), lambda c: c["annotations"][0].update(bbox=[5, 5, 1])),
     r"annotations\[0\] \(id 0\): bbox \(x, y, width, height\) must be 4 numbers, found \[5, 5, 1\]"),
    ("coco", "another size", lambda r: grow(r / "d/train2017/000000000002.png"),
     r"000000000002\.png is 112×40 \(width×height\), its annotations say 56×40"),
    ("coco", "no objects at all",
     no_annotations,
     r"none of .*'s 12 images has an object"),
    ("coco", "a class id twice",
     lambda r: edit_json(train_json(r), lambda c: c["categories"].append({"id": 1, "name": "other"})),
     r"categories\[10\]: id 1 is 'other' and 'digit 0': an id is one class"),
    ("coco", "an image twice",
     lambda r: edit_json(train_json(r), lambda c: c["images"].append(dict(c["images"][0], id=1))),
     r"the image train2017/000000000000\.png is named twice"),
    ("yolo", "pixels", lambda r: write(r / "d/labels/train/1.txt", "3 20 20 10 10\n"),
     r"labels/train/1\.txt line 1 holds pixels, not shares"),
    ("yolo", "a class out of range", lambda r: write(r / "d/labels/train/1.txt", "3 .5 .5 .1 .1\n10 .5 .5 .1 .1\n"),
     r"labels/train/1\.txt line 2 has class 10, out of range: wanted 0 to 9"),
    ("yolo", "a box outside", lambda r: write(r / "d/labels/train/1.txt", "3 .9 .5 .4 .1\n"),
     r"train/1\.txt line 1 has a box outside of its image"),
    ("yolo", "a confidence", lambda r: write(r / "d/labels/train/1.txt", "3 .5 .5 .4 .1 .9\n"),
     r"line 1 has 5 numbers behind the class: wanted 4"),
    ("yolo", "words", lambda r: write(r / "d/labels/train/1.txt", "cat .5 .5 .4 .1\n"),
     r"line 1 begins with 'cat', not a class number"),
    ("yolo", "no objects at all", all_empty, r"none of .*'s 12 images has an object"),
    ("yolo", "no file of labels", lambda r: shutil.rmtree(r / "d/labels"),
     r"no image of .*/d has a file of labels: .*/d/images/.*png would have .*/d/labels/.*txt"),
    ("yolo", "no yaml", lambda r: write(r / "d/data.yaml", "names: [a\n"), r"data\.yaml is not read as YAML: "),
    ("yolo", "a bomb of aliases", lambda r: write(r / "d/data.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"),
     r"data\.yaml is not read as YAML: it has aliases"),
    ("yolo", "nc", lambda r: write(r / "d/data.yaml", "train: images/train\nnames: [a, b]\nnc: 3\n"),
     r"data\.yaml: nc is 3, and names has 2"),
    ("yolo", "images elsewhere", lambda r: write(r / "d/data.yaml", "train: /etc\nnames: [a, b]\n"),
     r"its data\.yaml names '/etc', which is not in"),
    ("voc", "a DOCTYPE", lambda r: voc_xml(r).write_text(BILLION),
     r"2008_000001\.xml is not read: it has a DOCTYPE \(a\)"),
    ("voc", "no xml", lambda r: truncate(voc_xml(r), 40), r"2008_000001\.xml is no XML: .*line 1"),
    ("voc", "a box outside", lambda r: swap(voc_xml(r), r"<xmax>\d+", "<xmax>99"),
     r"2008_000001\.xml: object 0 \(digit \d\) has a box outside of its image"),
    ("voc", "another size", lambda r: swap(voc_xml(r), r"<width>\d+", "<width>99"),
     r"000001\.xml is of an image of 99×40 \(width×height\), the image has 56×40"),
    ("voc", "no corner", lambda r: swap(voc_xml(r), r"<xmin>\d+</xmin>", ""), r"object 0 has no bndbox/xmin"),
    ("voc", "no image", lambda r: (r / "d/VOCdevkit/VOC2012/JPEGImages/2008_000003.png").unlink(),
     r"'2008_000003' has no image"),
    ("masks", "another size", lambda r: grow(r / "d/masks/val/9_mask.png"),
     r"the mask .*9_mask\.png is 40×112 \(height×width\), its image 40×56"),
    ("masks", "colours", lambda r: Image.new("RGB", (56, 40)).save(r / "d/masks/val/9_mask.png"),
     r"the mask .*9_mask\.png holds colours \(RGB\), not class numbers"),
    ("masks", "a class that there is not", lambda r: Image.new("L", (56, 40), 77).save(r / "d/masks/val/9_mask.png"),
     r"9_mask\.png has class 77 at row 0, column 0, out of range: wanted 0 to 10, or 255"),
    ("masks", "none", lambda r: (r / "d/masks/val/9_mask.png").unlink(), r"images/val/9\.png has no mask 9_mask\.png"),
    ("masks", "damage", lambda r: truncate(r / "d/masks/val/9_mask.png", 70), r"the mask .*9_mask\.png cannot be read"),
    ("audiofolder", "another rate", rate, r"3\.flac has 16000 Hz, .*0\.wav has 8000 Hz: one source has one rate"),
    ("audiofolder", "damage", lambda r: truncate(r / "d/class1/3.flac", 30), r"sound file .*3\.flac cannot be read"),
    ("audiofolder", "a list of others", lambda r: write(r / "d/testing_list.txt", "class0/99.wav\n"),
     r"testing_list\.txt line 1 names 'class0/99\.wav', which is not in"),
    ("csv", "a file that is not there", lambda r: (r / "d/images/4.png").unlink(),
     r"table\.csv line 6 names 'images/4\.png', and there is no file"),
    ("csv", "a path out of the folder", lambda r: line(r, 3, "../../x.png,digit 1,train,a53,1.5"),
     r"table\.csv line 3 names '\.\./\.\./x\.png', which is not in .*/d$"),
    ("csv", "an absolute path",
     lambda r: line(r, 3, "/etc/x.png,digit 1,train,a53,1.5"), r"line 3 names '/etc/x\.png'"),
    ("csv", "too few cells", lambda r: line(r, 3, "images/1.png,digit 1"),
     r"table\.csv line 3 has 2 cells, the first line 5"),
    ("csv", "no number", lambda r: line(r, 3, "images/1.png,digit 1,train,a53,much"),
     r"table\.csv line 3 \(mean\) is 'much': wanted a number"),
    ("csv", "an empty cell",
     lambda r: line(r, 3, "images/1.png,,train,a53,1"), r"table\.csv line 3 \(label\) is empty"),
    ("csv", "no split", lambda r: line(r, 3, "images/1.png,digit 1,,a53,1"), r"table\.csv line 3 says no split"),
    ("csv", "an open quote",
     lambda r: line(r, 12, '"images/1.png,digit 1,train,a53,1'), r"table\.csv line \d+ is no CSV"),
    ("csv", "an endless line",
     lambda r: line(r, 3, "x" * (2**24 + 9)), r"table\.csv line 3 has more than 16,777,216 bytes"),
    ("csv", "no UTF-8", lambda r: (r / "d/table.csv").write_bytes(b"path,label,split,device,mean\na\xff\n"),
     r"table\.csv line 2 is not UTF-8: byte 0xff at 2"),
    ("csv", "no column", lambda r: line(r, 1, "path,label,split,phone,mean"), r"has no column 'device'.*"),
    ("csv", "a column twice", lambda r: line(r, 1, "path,label,split,device,path"), r"has no column 'mean'"),
    ("parquet", "damage", lambda r: truncate(r / "d/table.parquet", 60), r"table\.parquet cannot be read as Parquet"),
    ("parquet", "a file that is not there", lambda r: (r / "d/images/4.png").unlink(),
     r"table\.parquet row 4 names 'images/4\.png'"),
    ("jsonl", "no json", lambda r: line(r, 3, '{"text": "a', "train.jsonl"), r"train\.jsonl line 3 is no JSON"),
    ("jsonl", "no object", lambda r: line(r, 3, "[1, 2]", "train.jsonl"), r"line 3 is a list, not an object"),
    ("jsonl", "NaN",
     lambda r: line(r, 3, '{"text": "a", "tags": [NaN]}', "train.jsonl"), r"line 3 is no JSON: it holds NaN"),
    ("jsonl", "deep", lambda r: line(r, 3, "[" * 100_000, "train.jsonl"), r"train\.jsonl line 3 is no JSON"),
    ("jsonl", "no text", lambda r: line(r, 3, '{"text": 5, "tags": [1]}', "train.jsonl"),
     r"train\.jsonl line 3 \(text\) is '5': wanted a text"),
    ("jsonl", "no target",
     lambda r: line(r, 3, '{"text": "a"}', "train.jsonl"), r"train\.jsonl line 3 \(tags\) is empty"),
    ("webdataset", "no tar",
     lambda r: (r / "d/digits-val-000000.tar").write_text("no"), r"val-000000\.tar cannot be read as a tar"),
    ("webdataset", "cut off", lambda r: truncate(r / "d/digits-val-000000.tar", 700), r"val-000000\.tar"),
    ("webdataset", "a part that is missing",
     lambda r: tar_of(r / "d/digits-val-000000.tar", [("7.png", samples.png(np.zeros((8, 8), np.uint8)))]),
     r"digits-val-000000\.tar: 7 \(cls\) is empty"),
    ("webdataset", "a sample twice",
     lambda r: tar_of(r / "d/digits-val-000000.tar", [("7.cls", b"1"), ("8.cls", b"1"), ("7.png", b"")]),
     r"'7' is there twice, apart from each other"),
    ("webdataset", "no image", lambda r: tar_of(r / "d/digits-val-000000.tar", [("7.png", b"no"), ("7.cls", b"1")]),
     r"the image .*val-000000\.tar/7\.png cannot be read"),
    ("huggingface", "no data set", lambda r: (r / "d/dataset_dict.json").unlink(), r"/d is no data set on disk"),
    ("huggingface", "damage", no_arrow,
     r"/d cannot be read as a data set on disk"),
    ("imagefolder", "damage", lambda r: truncate(r / "d/val/class0/8.png", 40), r"the image .*8\.png cannot be read"),
    ("npz", "damage", lambda r: truncate(r / "d/a.npz", 99), r"a\.npz cannot be read as npz"),
    ("cifar10", "damage", lambda r: truncate(r / "d/test_batch.bin", 99), r"not a whole number of CIFAR-10 records"),
    ("function", "targets", lambda r: swap(r / "d/data.py", '"image_id": index', '"text": object()'),
     r"sample 0 of .*data\.py: target 'text' must be numbers or text"),
]  # fmt: skip


def test_every_source_of_files_has_faults_here() -> None:
    assert {name for name, _, _, _ in FAULTS} == set(MAKERS) - {"digits"}


@pytest.mark.parametrize(("name", "change", "message"), [(n, c, m) for n, _, c, m in FAULTS],
                         ids=[f"{name}: {fault}" for name, fault, _, _ in FAULTS])  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(name: str, change: Any, message: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path)
    change(tmp_path)
    with pytest.raises(PocketforgeError) as caught:
        read_all(data, tmp_path)
    assert isinstance(caught.value, ModelError) and re.search(message, caught.value.message), caught.value.message


# Doubts that a name or a value leaves.


def test_masks_of_0_and_255_are_refused_until_the_recipe_says_what_255_is(tmp_path: Path) -> None:
    data = samples.masks(tmp_path)
    (tmp_path / "d/classes.txt").unlink()
    for path in (tmp_path / "d/masks").rglob("*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(ModelError, match="hold no values but 0 and 255") as caught:
        opened(data, tmp_path)
    assert "mask_values = [0, 255]" in caught.value.hint
    source = opened(Data(data.source, mask_values=(0, 255)), tmp_path)
    target: Any = source.sample(3)[1]
    number = int(Path(source.ids[3]).stem)
    assert np.array_equal(target["mask"], (samples.scene(number).mask > 0).astype(np.uint8))
    # 255 is ignored where it is no class; another value is none.
    Image.fromarray(np.full((40, 56), 9, np.uint8)).save(tmp_path / "d/masks/train/1_mask.png")
    broken = opened(Data(data.source, mask_values=(0, 7)), tmp_path)
    broken.sample(0)
    with pytest.raises(ModelError, match=r"has value 9 at row 0, column 0, which is none of data.mask_values \[0, 7\]"):
        broken.sample(1)


def test_class_names_follow_the_labels_file(tmp_path: Path) -> None:
    samples.csv_table(tmp_path)
    names = tuple(f"digit {label}" for label in reversed(range(10)))
    data = Data("csv:d/table.csv", columns=COLUMNS)
    target: Any = opened(data, tmp_path, names).sample(0)[1]
    assert names[target["label"]] == f"digit {samples.digit(0)[1]}"
    with pytest.raises(ModelError, match=r"has the class 'digit 9', which is not in data\.labels"):
        opened(data, tmp_path, tuple(f"digit {label}" for label in range(9)))
    with pytest.raises(ModelError, match=r"data\.labels has the class name 'digit 1' twice"):
        opened(data, tmp_path, (*names, "digit 1"))
    for name in ("coco", "voc", "yolo"):
        other = MAKERS[name](tmp_path / name)
        found = opened(other, tmp_path / name, names)
        for index in range(COUNT):
            seen = samples.scene(int(Path(found.ids[index]).stem.removeprefix("2008_")))
            objects: Any = found.sample(index)[1]
            assert [names[number] for number in objects["classes"]] == [f"digit {label}" for label in seen.classes]


def test_numbers_of_a_data_sets_own_names_follow_the_labels_file(tmp_path: Path) -> None:
    data = samples.huggingface(tmp_path)
    names = ("none", *(f"digit {label}" for label in reversed(range(10))))
    source = opened(data, tmp_path, names)
    for number in range(COUNT):
        label: Any = source.sample(number)[1]
        assert names[label] == f"digit {samples.digit(number)[1]}"
    with pytest.raises(ModelError, match=r"has the class 'digit 9', which is not in data\.labels"):
        opened(data, tmp_path, names[2:])


def test_masks_of_named_classes_refuse_labels_in_another_order(tmp_path: Path) -> None:
    from pocketforge.data.dataset import open_dataset
    from pocketforge.recipe.output import Output
    from pocketforge.specs.data import data_spec

    data = samples.masks(tmp_path)
    write(tmp_path / "labels.txt", "background\n" + "".join(f"digit {label}\n" for label in reversed(range(10))))
    spec = data_spec(Data(data.source, calibration_samples=2), 0, "outputs", (Output("segmentation"),))
    with pytest.raises(ModelError, match="has the data's classes in another order"):
        open_dataset(spec, lambda path: tmp_path / path, tmp_path / "labels.txt")


def test_digits_that_are_names_at_another_place_are_a_doubt(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text,label\n" + "".join(f"a{n},{n % 3}\n" for n in range(9)))
    data = Data("csv:t.csv")
    assert opened(data, tmp_path, ("0", "1", "2")).sample(5)[1] == 2
    with pytest.raises(
        ModelError, match=r"has the class '0': class number 0, or the name that data\.labels has as class 1"
    ):
        opened(data, tmp_path, ("2", "0", "1"))


def test_columns_are_guessed_by_plain_names_only(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text;label;x\n" + "".join(f"a{n};no{n % 2};{n}\n" for n in range(9)))
    files = look_at("csv:t.csv", lambda path: tmp_path / path)
    assert any("column 'text' is the input, 'label' the label" in note for note in files.notes)
    assert opened(Data("csv:t.csv"), tmp_path).labels == ("no0", "no1")
    write(tmp_path / "t.csv", "text,path,label\na,b,c\n")
    with pytest.raises(ModelError, match=r"which column of .*t\.csv is for input\? 2 of them may be \(text, path\)"):
        opened(Data("csv:t.csv"), tmp_path)
    write(tmp_path / "t.csv", "a,b,c\n1,2,3\n")
    with pytest.raises(ModelError, match="none of them says so by its name: a, b, c") as caught:
        opened(Data("csv:t.csv"), tmp_path)
    assert "columns = { input" in caught.value.hint and 'features = ["…"]' in caught.value.hint


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (("sex", "s*"), r"features 'sex' and 's\*' both match column 'sex' of .*t\.csv"),
        (("*",), r"features '\*' matches column 'score' of .*t\.csv, which is a target"),
    ],
)
def test_features_hold_no_column_twice_and_not_the_answer(tmp_path: Path, features: tuple[str, ...], said: str) -> None:
    """`s*` of s1, s2 took `sex` a second time, and `*` the target: without a word."""
    write(tmp_path / "t.csv", "sex,s1,s2,score\n" + "".join(f"{n % 2},{n},{n}.5,{n}\n" for n in range(9)))
    with pytest.raises(ModelError, match=said):
        opened(Data("csv:t.csv", columns=Columns(features=features, targets={"value": "score"})), tmp_path)
    named = Columns(features=("sex", "s[12]"), targets={"value": "score"})
    assert opened(Data("csv:t.csv", columns=named), tmp_path).sample(3)[0][0].tolist() == [1.0, 3.0, 3.5]


def test_real_numbers_are_no_class_numbers_and_how_to_say_so_is_told(tmp_path: Path) -> None:
    """A column `target` is taken for a label: every number became the name of a class, also for a regression."""
    write(tmp_path / "t.csv", "x,target\n" + "".join(f"{n},{n}.{5 * (n % 2)}\n" for n in range(9)))
    columns = Columns(features=("x",))
    said = r"t\.csv line 3 \(target\) has '1\.5', and all classes are numbers: wanted whole ones"
    with pytest.raises(ModelError, match=said) as caught:
        opened(Data("csv:t.csv", columns=columns), tmp_path)
    assert 'target = { value = "…" }' in caught.value.hint
    named = tuple(f"{n}.{5 * (n % 2)}" for n in range(9))
    assert opened(Data("csv:t.csv", columns=columns), tmp_path, named).sample(5)[1] == 5
    write(tmp_path / "t.csv", "x,target\n1,1.5\n2,1.5mm\n3,2\n")
    assert opened(Data("csv:t.csv", columns=columns), tmp_path).labels == ("1.5", "1.5mm", "2")


def test_class_numbers_with_a_point_are_numbers(tmp_path: Path) -> None:
    """As pandas writes a column with gaps. They were names, sorted as such: 10.0 before 2.0."""
    write(tmp_path / "t.csv", "text,label\n" + "".join(f"a{n},{n}.0\n" for n in range(12)))
    source = opened(Data("csv:t.csv"), tmp_path)
    assert [source.sample(n)[1] for n in range(12)] == list(range(12)) and source.labels == ()
    with pytest.raises(ModelError, match=r"has the class '0\.0': class number 0, or the name"):
        opened(Data("csv:t.csv"), tmp_path, ("1.0", "0.0"))


def test_numbers_and_features_are_arrays(tmp_path: Path) -> None:
    write(
        tmp_path / "t.csv", "id,acc_x,acc_y,step,label\n" + "".join(f"s{n},{n}.5,{n},{n},{n % 2}\n" for n in range(9))
    )
    columns = Columns(inputs=("step",), features=("acc_*",), targets={"label": "label"}, id="id")
    source = opened(Data("csv:t.csv", columns=columns), tmp_path)
    (step, vector), label = source.sample(3)
    assert step.dtype == np.int64 and step.shape == () and vector.tolist() == [3.5, 3.0] and vector.dtype == np.float32
    assert label == 1 and source.ids[3] == "s3"
    line_ = "s3,9,9,9,1\n"
    with (tmp_path / "t.csv").open("a") as file:
        file.write(line_)
    with pytest.raises(ModelError, match=r"t\.csv line 11 has the id 's3', as .*t\.csv line 5"):
        opened(Data("csv:t.csv", columns=columns), tmp_path)


def test_quoted_cells_of_several_lines_and_other_separators_are_read_alone(tmp_path: Path) -> None:
    texts = ["a\nb", 'say "x"', "c\u2028d", "e\r\nf", "plain", "\n", "last, one"]
    quoted = [text.replace('"', '""') for text in texts]
    content = "text,label\r\n" + "".join(f'"{text}",{n}\r\n\r\n' for n, text in enumerate(quoted))
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + content.encode())
    source = opened(Data("csv:t.csv"), tmp_path)
    assert [(str(source.sample(n)[0][0]), source.sample(n)[1]) for n in range(7)] == [
        *zip(texts, range(7), strict=True)
    ]


def test_words_of_a_split_column_may_be_told(tmp_path: Path) -> None:
    from pocketforge.recipe.data import SplitFolders

    write(tmp_path / "t.csv", "text,label,fold\n" + "".join(f"a{n},{n % 2},{n % 4}\n" for n in range(12)))
    columns = Columns(inputs=("text",), targets={"label": "label"}, split="fold")
    with pytest.raises(ModelError, match="column 'fold' has no word of a split: '0', '1', '2', '3'"):
        opened(Data("csv:t.csv", columns=columns), tmp_path)
    told = SplitFolders(train=("0", "1"), eval=("3",))
    source = opened(Data("csv:t.csv", columns=columns, split_folders=told), tmp_path)
    assert [*zip(source.ids, source.split, strict=True)] == [
        (str(n), "eval" if n % 4 == 3 else "train") for n in range(12) if n % 4 != 2
    ]
    with pytest.raises(ModelError, match=r"data.split_folders.eval: column 'fold' has no '9'"):
        opened(Data("csv:t.csv", columns=columns, split_folders=SplitFolders(("0",), ("9",))), tmp_path)


def test_copies_are_seen_by_content_and_only_likely_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketforge.data import file_samples
    from pocketforge.data.dataset import open_dataset
    from pocketforge.specs.data import data_spec

    data = samples.imagefolder(tmp_path)
    source = tmp_path / "d/val/class1/9.png"
    (tmp_path / "d/train/class1/copy.png").write_bytes(source.read_bytes())
    read: list[str] = []
    digest = file_samples.file_digest

    def noted(path: Path) -> str:
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(file_samples, "file_digest", noted)
    spec = data_spec(Data(data.source, calibration_samples=2), 0, "classification")
    found = open_dataset(spec, lambda path: tmp_path / path)
    assert [found.source.ids[index] for index in found.split.duplicates] == ["train/class1/copy.png"]
    assert sorted(read) == ["9.png", "copy.png"]
