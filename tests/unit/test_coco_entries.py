"""COCO's lists are read entry by entry; what ijson does not take is as Python's own reader takes it."""

from __future__ import annotations

import codecs
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from pocketforge.data.annotated import coco_entries
from pocketforge.data.annotated.coco_entries import CocoFile
from pocketforge.data.annotated.coco_outlines import Outlines
from pocketforge.errors import ModelError

ANNOTATIONS: list[dict[str, Any]] = [
    {"id": n, "image_id": n % 3, "bbox": [0.5, 1, 2, 3.25], "segmentation": [[n, 0.5]]} for n in range(7)
]
CONTENT: dict[str, Any] = {
    "info": {"images": [1]},
    "annotations": ANNOTATIONS,
    "images": [{"id": 0, "file_name": "größe.jpg"}],
    "categories": [{"id": 1, "name": "cat"}],
}


def written(folder: Path, content: Any) -> CocoFile:
    path = folder / "c.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return CocoFile(path)


def read(file: CocoFile) -> dict[str, list[Any]]:
    return {key: list(file.entries(key)) for key in coco_entries.LISTS}


def test_lists_are_read_without_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(path: Path) -> None:
        raise AssertionError("read whole")

    monkeypatch.setattr(coco_entries, "_read_json", whole)
    found = read(written(tmp_path, CONTENT))
    assert found == {key: CONTENT[key] for key in coco_entries.LISTS}
    assert [type(value) for value in found["annotations"][0]["bbox"]] == [float, int, int, float]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**CONTENT, "annotations": [*ANNOTATIONS, {"id": 8, "area": float("nan")}]}).encode(),
        json.dumps({**CONTENT, "annotations": [*ANNOTATIONS, {"id": 2**80}]}).encode(),
        json.dumps({**CONTENT, "annotations": []}).encode(),
        codecs.BOM_UTF8 + json.dumps(CONTENT).encode(),
        json.dumps(CONTENT).encode("utf-16"),
    ],
    ids=["nan", "80 bits", "empty", "byte-order mark", "utf-16"],
)
def test_what_python_takes_is_taken(tmp_path: Path, text: bytes) -> None:
    assert repr(read(written(tmp_path, text))) == repr({key: json.loads(text)[key] for key in coco_entries.LISTS})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "c.json is no JSON: Expecting property name"),
        (b"", "c.json is no JSON: Expecting value"),
        (json.dumps(CONTENT).encode()[:-30], "c.json is no JSON: "),
        (json.dumps(CONTENT).encode() + b"}", "c.json is no JSON: Extra data"),
        (json.dumps(CONTENT).encode().replace(b"cat", b"\xff"), "c.json is no JSON: 'utf-8' codec can't decode"),
        ([], "has no list of objects 'images'"),
        ({**CONTENT, "categories": {}}, "has no list of objects 'categories'"),
        ({**CONTENT, "annotations": [*ANNOTATIONS, 3]}, "has no list of objects 'annotations'"),
        ({"images": [], "annotations": []}, "has no list of objects 'categories'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_python_says_it(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ModelError) as error:
        read(written(tmp_path, content))
    assert said in error.value.message


def test_without_ijson_files_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert read(written(tmp_path, CONTENT)) == {key: CONTENT[key] for key in coco_entries.LISTS}


def test_outlines_are_of_their_image(tmp_path: Path) -> None:
    outlines = Outlines([written(tmp_path, CONTENT)])
    for entry in ANNOTATIONS:
        left_out = entry["id"] == 4
        outlines.places.append(-1 if left_out else entry["image_id"])
        outlines.numbers.append(entry["id"] * 10)
    assert outlines.of(1) == [(10, [[1, 0.5]])]
    assert outlines.of(0) == [(0, [[0, 0.5]]), (30, [[3, 0.5]]), (60, [[6, 0.5]])]
    assert outlines.of(2) == [(20, [[2, 0.5]]), (50, [[5, 0.5]])]
