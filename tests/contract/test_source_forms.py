"""Forms in which annotations are about: other folders, keypoints, polygons, lists; each read as its makers mean it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_samples as samples
from source_samples import COUNT, HEIGHT, MAKERS, WIDTH, save, write
from test_source_faults import opened, tar_of

from pocketforge.data.files import look_at
from pocketforge.errors import ModelError
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import Data, SplitFolders

NAMES = "names: [" + ", ".join(f"digit {label}" for label in range(10)) + "]\n"


def boxes(source: Any, index: int) -> list[list[float]]:
    found: list[list[float]] = source.sample(index)[1]["boxes"].tolist()
    return found


def test_one_coco_file_finds_its_images_beside_the_annotations_folder(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    source = opened(Data("coco:d/annotations/instances_val2017.json"), tmp_path)
    assert len(source) == 4 and set(source.split) == {None} and source.ids[0] == "val2017/000000000008.png"
    told = Data("coco:d", split_folders=SplitFolders(("annotations/instances_val2017.json",)))
    assert list(opened(told, tmp_path).ids) == list(source.ids)


def test_roboflows_coco_lies_beside_its_images(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    for split, folder in (("train2017", "train"), ("val2017", "valid")):
        (tmp_path / "d" / split).rename(tmp_path / "d" / folder)
        (tmp_path / f"d/annotations/instances_{split}.json").rename(tmp_path / f"d/{folder}/_annotations.coco.json")
    (tmp_path / "d/annotations").rmdir()
    source = opened(Data("coco:d"), tmp_path)
    assert source.ids[0] == "train/000000000000.png" and [*source.split].count("eval") == 4


def test_coco_files_whose_names_say_no_split_are_a_doubt(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    for old, new in (("train2017", "fold_a"), ("val2017", "fold_b")):
        (tmp_path / f"d/annotations/instances_{old}.json").rename(tmp_path / f"d/annotations/instances_{new}.json")
    with pytest.raises(
        ModelError, match=r"which of these of .* are read: annotations/instances_fold_a\.json"
    ) as caught:
        look_at("coco:d", lambda path: tmp_path / path)
    assert "split_folders = { train" in caught.value.hint


def test_cocos_keypoints_and_its_compressed_rle(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    for path in (tmp_path / "d/annotations").iterdir():
        content = json.loads(path.read_text())
        for category in content["categories"]:
            category["keypoints"] = ["top", "bottom"]
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["keypoints"] = [x, y, 2, x + width, y + height, 0]
            entry["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": "PPYo0"}
        path.rename(path.with_name(path.name.replace("instances", "person_keypoints")))
        path.with_name(path.name.replace("instances", "person_keypoints")).write_text(json.dumps(content))
    labels = ("background", *(f"digit {label}" for label in range(10)))
    source = opened(Data("coco:d"), tmp_path, labels)
    target: Any = source.sample(0)[1]
    found = target["keypoints"]
    assert found.shape == (2, 2, 3) and found.dtype == np.float32 and found[0, :, 2].tolist() == [2, 0]
    assert found[0, 0, :2].tolist() == target["boxes"][0, :2].tolist()
    with pytest.raises(ModelError, match=r"000000000000\.png has a segmentation that cannot be read: RLE "):
        target["mask"]


@pytest.mark.parametrize(
    ("outline", "fault"),
    [
        ([[1, 1, 5, 5]], "a polygon has fewer than three points"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "a polygon lies outside of the image"),
        ({"size": [3, 3], "counts": [9]}, r"RLE is of size \[3, 3\], the image \[40, 56\]"),
        ({"size": [40, 56], "counts": [2240, 5]}, "RLE counts 2245 pixels, the image has 2240"),
        ({"size": [40, 56], "counts": [-5, 2245]}, "RLE counts are no whole numbers of 0 or more"),
        ({"size": [40, 56], "counts": "~"}, "RLE has the letter '~'"),
        ({"size": [40, 56], "counts": "ooooooooooooooooo"}, "RLE has a count of too many letters"),
        ({"size": [40, 56], "counts": "o"}, "RLE ends in the middle of a count"),
        ("text", "found a str"),
    ],
)
def test_outlines_that_cocos_code_would_write_out_of_bounds_are_refused(
    outline: Any, fault: str, tmp_path: Path
) -> None:
    samples.coco(tmp_path)
    path = tmp_path / "d/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = outline
    path.write_text(json.dumps(content))
    source = opened(Data("coco:d"), tmp_path, ("background", *(f"digit {label}" for label in range(10))))
    target: Any = source.sample(0)[1]
    with pytest.raises(ModelError, match=fault):
        target["mask"]


def test_a_coco_box_on_the_edge_is_cut_and_a_flat_one_left_out_and_both_are_said(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    path = tmp_path / "d/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [50, 5, 6.4, 9]
    content["annotations"][1]["bbox"] = [5, 5, 0, 9]
    path.write_text(json.dumps(content))
    source = opened(Data("coco:d"), tmp_path)
    assert boxes(source, 0) == [[50, 5, 56, 14]]
    notes = "\n".join(source.notes())
    assert "1 boxes end at most 1 px outside" in notes and "1 boxes have no area" in notes


def test_yolo_without_a_yaml_and_as_roboflow_writes_it(tmp_path: Path) -> None:
    samples.yolo(tmp_path)
    wanted = [boxes(opened(Data("yolo:d"), tmp_path), index) for index in range(COUNT)]
    (tmp_path / "d/data.yaml").unlink()
    source = opened(Data("yolo:d"), tmp_path)
    assert source.labels == () and [boxes(source, index) for index in range(COUNT)] == wanted
    assert [*source.split].count("eval") == 4
    write(tmp_path / "d/classes.txt", "".join(f"digit {label}\n" for label in range(10)))
    assert opened(Data("yolo:d"), tmp_path).labels[3] == "digit 3"
    for split, folder in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            (tmp_path / "r" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / kind / split).rename(tmp_path / "r" / folder / kind)
    write(tmp_path / "r/data.yaml", f"train: ../train/images\nval: ../valid/images\n{NAMES}nc: 10\n")
    source = opened(Data("yolo:r/data.yaml"), tmp_path)
    assert [boxes(source, index) for index in range(COUNT)] == wanted and source.ids[0] == "train/images/0.png"


def test_yolos_polygons_keypoints_and_lists(tmp_path: Path) -> None:
    samples.yolo(tmp_path)
    write(tmp_path / "d/labels/train/0.txt", "3 .25 .25 .5 .25 .5 .5 .25 .5\n3 .25 .25 .5 .25 .5 .5 .25 .5\n")
    source = opened(Data("yolo:d"), tmp_path)
    assert np.allclose(boxes(source, 0), [[14, 10, 28, 20]])
    assert "1 lines of labels are there twice" in "\n".join(source.notes())
    write(tmp_path / "d/train.txt", "".join(f"./images/train/{number}.png\n" for number in range(2)))
    write(tmp_path / "d/data.yaml", f"train: train.txt\nval: images/val\n{NAMES}kpt_shape: [2, 2]\n")
    for number in (0, 1, *range(8, COUNT)):
        split = samples.split_of(number)
        write(tmp_path / f"d/labels/{split}/{number}.txt", "3 .5 .5 .5 .5 .25 .5 0 0\n")
    source = opened(Data("yolo:d"), tmp_path)
    target: Any = source.sample(0)[1]
    assert len(source) == 6 and target["keypoints"].tolist() == [[[14, 20, 2], [0, 0, 0]]]
    assert tmp_path / "d/train.txt" in look_at("yolo:d", lambda path: tmp_path / path).paths


def test_masks_in_each_split_and_palettes(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(COUNT):
        folder = tmp_path / "d" / samples.split_of(number)
        save(samples.scene(number).image, folder / "images" / "deep" / f"{number}.png")
        mask = Image.fromarray(samples.scene(number).mask)
        mask.putpalette([value for index in range(256) for value in (255 - index, index, 9)])
        (folder / "masks" / "deep").mkdir(parents=True, exist_ok=True)
        mask.save(folder / "masks" / "deep" / f"{number}.png")
    source = opened(Data("masks:d"), tmp_path)
    assert [*source.split].count("eval") == 4 and source.labels == ()
    for index in range(COUNT):
        target: Any = source.sample(index)[1]
        assert np.array_equal(target["mask"], samples.scene(int(Path(source.ids[index]).stem)).mask)


def test_tars_with_links_sparse_members_and_compression_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with tarfile.open(tmp_path / "d/a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ModelError, match=r"'1\.png' is no plain file \(a link, or sparse\)"):
        opened(Data("webdataset:d"), tmp_path)
    with tarfile.open(tmp_path / "d/a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("1.png"))
    with pytest.raises(ModelError, match="cannot be read as a tar") as caught:
        opened(Data("webdataset:d"), tmp_path)
    assert "gunzip" in caught.value.hint
    # A path out of a folder is a key like any other: nothing is unpacked.
    tar_of(
        tmp_path / "d/a.tar",
        [("../../1.txt", b"a text"), ("../../1.cls", b"0"), ("/x/2.txt", b"b"), ("/x/2.cls", b"1")],
    )
    source = opened(Data("webdataset:d"), tmp_path)
    assert [str(source.sample(index)[0][0]) for index in range(2)] == ["a text", "b"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "d"]


def test_a_text_in_a_tar_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d/secret.png", "x")
    tar_of(tmp_path / "d/a.tar", [("1.txt", b"secret.png"), ("1.cls", b"0"), ("2.txt", b"b"), ("2.cls", b"1")])
    assert str(opened(Data("webdataset:d"), tmp_path).sample(0)[0][0]) == "secret.png"


def test_boxes_and_lists_of_labels_in_tables(tmp_path: Path) -> None:
    save(samples.scene(0).image, tmp_path / "0.png")
    lines = ['{"image": "0.png", "boxes": [[1, 2, 9, 9]], "names": ["cat"], "tags": ["dog", "cat"]}',
             '{"image": "0.png", "boxes": [], "names": [], "tags": []}']  # fmt: skip
    write(tmp_path / "t.jsonl", "\n".join(lines))
    columns = Columns(inputs=("image",), targets={"boxes": "boxes", "classes": "names", "labels": "tags"})
    source = opened(Data("jsonl:t.jsonl", columns=columns), tmp_path)
    first: Any = source.sample(0)[1]
    second: Any = source.sample(1)[1]
    assert source.labels == ("cat", "dog") and first["labels"].tolist() == [1, 1] and first["classes"].tolist() == [0]
    assert second["boxes"].shape == (0, 4) and second["classes"].shape == (0,) and second["labels"].tolist() == [0, 0]
    write(tmp_path / "t.jsonl", lines[0].replace("[1, 2, 9, 9]", "[1, 2, 99, 9]"))
    with pytest.raises(ModelError, match=r"t\.jsonl line 1 \(boxes\) \[0\] has a box outside of its image"):
        opened(Data("jsonl:t.jsonl", columns=columns), tmp_path).sample(0)
    write(tmp_path / "t.jsonl", lines[0].replace('["cat"]', '["cat", "dog"]'))
    with pytest.raises(ModelError, match=r"line 1 has 1 boxes, 2 classes: wanted as many of each"):
        opened(Data("jsonl:t.jsonl", columns=columns), tmp_path).sample(0)
    write(tmp_path / "t.csv", "image,names\n0.png,cat|dog\n0.png,\n")
    columns = Columns(inputs=("image",), targets={"labels": "names"})
    source = opened(Data("csv:t.csv", columns=columns), tmp_path)
    assert [source.sample(index)[1]["labels"].tolist() for index in range(2)] == [[1, 1], [0, 0]]  # type: ignore[index]


def test_a_renamed_folder_of_a_split_is_another_key(tmp_path: Path) -> None:
    for name in MAKERS:
        if name in ("imagefolder", "masks", "yolo"):
            MAKERS[name](tmp_path / name)
            resolve = lambda path, name=name: tmp_path / name / path  # noqa: E731
            before = look_at(f"{name}:d", resolve).layout
            for folder in sorted((tmp_path / name).rglob("val")):
                folder.rename(folder.with_name("test"))
            if name == "yolo":
                write(tmp_path / name / "d/data.yaml", f"train: images/train\ntest: images/test\n{NAMES}")
            assert look_at(f"{name}:d", resolve).layout != before


def test_a_part_alone_is_split_and_that_is_said(tmp_path: Path) -> None:
    samples.coco(tmp_path)
    (tmp_path / "d/annotations/instances_train2017.json").unlink()
    assert set(opened(Data("coco:d"), tmp_path).split) == {None}
    notes = look_at("coco:d", lambda path: tmp_path / path).notes
    assert any("has no part to train on: annotations/instances_val2017.json is split" in note for note in notes)


def test_structs_of_parquet_have_inner_columns_and_bytes_are_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    records = [{"text": f"a{n}", "label": n % 2, "meta": {"device": {"name": "a53"}}} for n in range(6)]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "t.parquet", row_group_size=2)
    columns = Columns(inputs=("text",), targets={"label": "label"}, slices=("meta.device.name",))
    source = opened(Data("parquet:t.parquet", columns=columns), tmp_path)
    assert source.slices(3) == {"meta.device.name": "a53"} and source.sample(3)[1] == 1
    records = [{"image": {"bytes": b"x", "path": "a.png"}, "label": n} for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "t.parquet")
    with pytest.raises(ModelError, match=r"t\.parquet: column 'image' holds the bytes of files") as caught:
        opened(Data("parquet:t.parquet"), tmp_path)
    assert "save_to_disk" in caught.value.hint
