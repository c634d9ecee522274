"""Targets by name: checked against their outputs' roles, moved with their image, written and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.geometry import Geometry, stretched
from pocketforge.data.role_targets import WANTED, check_tags, checked_targets
from pocketforge.data.targets import Targets
from pocketforge.data.targets_on_disk import stored_targets
from pocketforge.errors import ModelError
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.recipe import Data, Output, Preprocess
from pocketforge.recipe.preprocess import InputSteps
from pocketforge.recipe.roles import ROLES, RoleName
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.specs.data import data_spec
from pocketforge.stages.data import run

IMAGE = stretched((20, 40), (20, 40))


def checked(role: RoleName, geometry: Geometry | None = IMAGE, known: int = 0, **targets: Any) -> Targets:
    spec = data_spec(Data("digits"), 0, "outputs", (Output(role, "head"),))
    return checked_targets(Targets(targets), spec.targets, known, geometry, "sample '7'")


def refused(role: RoleName, known: int = 0, **targets: Any) -> str:
    with pytest.raises(ModelError) as error:
        checked(role, known=known, **targets)
    return f"{error.value.message} | {error.value.hint}"


BOX = np.asarray([[1, 2, 11, 12]], np.float32)
KEYPOINTS = np.asarray([[[1.0, 2.0, 2.0]]])


@pytest.mark.parametrize(
    ("role", "targets", "said"),
    [
        ("segmentation", {"label": 3}, "has no target 'mask' (for output 'head' of role segmentation), found label"),
        ("segmentation", {"mask": np.zeros((20, 39), int)}, "is 20 by 39, its image 20 by 40 (height by width)"),
        ("segmentation", {"mask": np.zeros((20, 40))}, "found float64 of shape [20, 40]"),
        ("segmentation", {"mask": np.full((20, 40), 3)}, "found class 3, and there are 3 (255 is ignored)"),
        ("segmentation", {"mask": np.full((20, 40), -1)}, "found class -1"),
        ("boxes", {"boxes": BOX}, "there is no target 'classes' with each box's class number"),
        ("boxes", {"boxes": BOX, "classes": [1, 2]}, "found 1 boxes and 'classes' int64 of shape [2]"),
        ("boxes", {"boxes": BOX, "classes": [5]}, "found class 5 in 'classes', wanted 0 to 2"),
        ("boxes", {"boxes": BOX[:, :3], "classes": [1]}, "found float32 of shape [1, 3]"),
        ("boxes", {"boxes": [[10, 10, 5, 5]], "classes": [1]}, "box 0 has no area: 10, 10, 5, 5 (x1 y1 x2 y2, not x y"),
        (
            "boxes",
            {"boxes": BOX + 100, "classes": [1]},
            "lies outside of its image of 40 by 20 pixels (width by height)",
        ),
        ("boxes", {"boxes": BOX / 40, "classes": [1]}, "0.3: shares of the image's size, not pixels?"),
        ("boxes", {"boxes": BOX * np.nan, "classes": [1]}, "found a coordinate that is NaN or infinite"),
        ("keypoints", {"keypoints": np.zeros((2, 3, 3))}, "found 2 instances: the role's output holds one a sample"),
        ("keypoints", {"keypoints": np.zeros((1, 3, 2))}, "found float64 of shape [1, 3, 2]"),
        ("multilabel", {"labels": [0, 2, 1]}, "found values other than 0 and 1: 2"),
        ("multilabel", {"labels": [0, 1]}, "found 2 entries, there are 3 labels"),
        ("tokens", {"tags": [0, 7]}, "found tag 7, wanted 0 to 2 (-100 is ignored)"),
        ("tokens", {"tags": [0.5]}, "found float64 of shape [1]"),
        ("sequence", {"text": 3}, "found int64 of shape []"),
        ("image", {"image": np.zeros((4, 4, 3), np.int64)}, "found int64 of shape [4, 4, 3]"),
        ("image", {"image": np.full((4, 4, 3), np.inf)}, "found a value that is NaN or infinite"),
        ("waveform", {"waveform": np.zeros((2, 9))}, "found float64 of shape [2, 9]"),
        ("binary", {"label": 0.5}, "target 'label' has the target"),
        ("logits", {"label": 3}, "out of range"),
        ("regression", {"value": np.nan}, "NaN or infinite"),
    ],
)
def test_a_target_that_fits_no_role_is_said_with_its_sample_and_its_output(
    role: RoleName, targets: dict[str, Any], said: str
) -> None:
    message = refused(role, 3, **targets)
    assert said in message, message
    assert "head" in message and ("sample '7'" in message or "target 'label'" in message or "target 'value'" in message)


def test_every_kind_of_target_is_told_of() -> None:
    assert {kind for role in ROLES.values() for kind in role.targets} == set(WANTED)


def test_an_output_without_a_name_is_not_called_by_none() -> None:
    spec = data_spec(Data("digits"), 0, "outputs", (Output("segmentation"),))
    with pytest.raises(ModelError, match=r"has no target 'mask' \(for the output of role segmentation\)"):
        checked_targets(Targets({"label": 1}), spec.targets, 0, None, "sample '7'")


def test_a_text_has_a_tag_for_each_of_its_tokens() -> None:
    """A tag for each word, where words come apart, was held against the tokens at their places."""
    texts = (InputSteps((Tokenize("t.json", 6),), "ids"),)
    ids, right, left = np.arange(6), np.asarray([1, 1, 1, 1, 0, 0]), np.asarray([0, 0, 1, 1, 1, 1])
    for fits in (4, 6):
        check_tags(fits, (ids, right), texts, "sample '7'")
    check_tags(6, (ids, left), texts, "sample '7'")
    for count, mask, said in (
        (3, right, "3 tags, and the text 4 tokens"),
        (7, right, "7 tags"),
        (4, left, "on the left"),
    ):
        with pytest.raises(ModelError, match=said):
            check_tags(count, (ids, mask), texts, "sample '7'")
    before = (InputSteps((), "x"), InputSteps((Tokenize("t.json", 6, gives=("mask", "ids")),), "mask"))
    check_tags(4, (ids, right, ids), before, "sample '7'")
    check_tags(3, (ids,), (InputSteps((Tokenize("t.json", 6, gives=("ids",)),)),), "nothing says how many there are")


def test_no_box_is_no_fault() -> None:
    found = checked("boxes", boxes=[], classes=[])
    assert {name: array.shape for name, array in found.items()} == {"boxes": (0, 4), "classes": (0,), "crowd": (0,)}
    assert checked("boxes", boxes=np.zeros((0, 4))).keys() == found.keys()


def test_places_go_where_their_image_goes() -> None:
    half = stretched((20, 40), (10, 20))
    boxes = checked("boxes", half, boxes=[[-3, 2, 11, 12]], classes=[1])["boxes"]
    assert boxes.tolist() == [[0, 1, 5.5, 6]]  # clipped at the raw image's edge, then halved
    moved = checked("keypoints", half, keypoints=KEYPOINTS, areas=[8.0])
    assert moved["keypoints"].tolist() == [[[0.5, 1.0, 2.0]]] and moved["areas"].tolist() == [2.0]
    mask = np.zeros((20, 40), np.uint8)
    mask[10:, 20:] = 1
    small = checked("segmentation", half, mask=mask)["mask"]
    assert small.shape == (10, 20) and small.sum() == 50 and small[5:, 10:].all()


def test_what_a_crop_leaves_outside_is_dropped() -> None:
    crop = Geometry(1.0, 1.0, -10.0, -5.0, (20, 40), (10, 10))
    found = checked("boxes", crop, boxes=[[0, 0, 9, 9], [8, 4, 12, 9], [30, 0, 39, 9]], classes=[1, 2, 3])
    assert found["boxes"].tolist() == [[0, 0, 2, 4]] and found["classes"].tolist() == [2]
    seen = checked("keypoints", crop, keypoints=[[[0.0, 0.0, 2.0], [12.0, 7.0, 2.0]]])["keypoints"]
    assert seen[0, :, 2].tolist() == [0.0, 2.0] and seen[0, 1, :2].tolist() == [2.0, 2.0]
    pad = Geometry(1.0, 1.0, 2.0, 0.0, (20, 40), (20, 44))
    mask = checked("segmentation", pad, mask=np.ones((20, 40), int))["mask"]
    assert (mask[:, :2] == 255).all() and (mask[:, 42:] == 255).all() and (mask[:, 2:42] == 1).all()


SOURCE = """
import numpy as np
class Scenes:
    def __len__(self):
        return 30
    def __getitem__(self, i):
        image = np.full((12, 16, 3), i, np.uint8)
        boxes = [[0, 0, 1 + k, 4] for k in range(i % 3)]
        return image, {"boxes": boxes, "classes": [k for k in range(i % 3)], "text": "é" * i, "tags": [1] * (i % 4),
                       "mask": np.full((12, 16), i % 2), "label": i}
def scenes():
    return Scenes()
def wrong():
    return [(np.zeros(3), {"a b": 1})] * 30
def black_and_white():
    return [(np.full((4, 4, 3), k, np.uint8), {"mask": np.eye(4, dtype=np.uint8) * 255}) for k in range(30)]
def ragged():
    return [(np.full((4, 4, 3), k, np.uint8), {"value": np.zeros(1 + k % 2)}) for k in range(30)]
"""


def sampled(folder: Path, source: str, judged: tuple[Output, ...], preprocess: Preprocess | None) -> Sampled:
    (folder / "scenes.py").write_text(SOURCE, encoding="utf-8")
    out = folder / "out"
    out.mkdir()
    data = Data(f"scenes.py:{source}", calibration_samples=4, preprocess=preprocess)
    run({"data_root": folder}, data_spec(data, 0, "outputs", judged), out, lambda *_: None)
    return files.read(out, Sampled)


def test_what_stage_data_writes_comes_back_by_name(tmp_path: Path) -> None:
    judged = (Output("boxes", "b"), Output("segmentation", "m"), Output("sequence", "s"), Output("tokens", "t"),
              Output("embedding", "e"))  # fmt: skip
    found = sampled(tmp_path, "scenes", judged, Preprocess(resize=(6, 8)))
    assert found.targets is None and found.eval_histogram is None
    stored = stored_targets(tmp_path / "out", found)
    numbers = (load_samples(tmp_path / "out", "eval")[0][:, 0, 0, 0] * 255).round().astype(int).tolist()
    assert set(stored.listed) == {"boxes", "classes", "crowd", "mask", "text", "tags", "label"}
    for start in (0, 3):
        part = numbers[start : start + 3]
        assert [len(each) for each in stored.batch("boxes", start, start + 3)] == [n % 3 for n in part]
        assert list(stored.batch("text", start, start + 3)) == ["é" * n for n in part]
        assert [len(each) for each in stored.batch("tags", start, start + 3)] == [n % 4 for n in part]
        assert np.asarray(stored.batch("label", start, start + 3)).tolist() == part
        masks = np.asarray(stored.batch("mask", start, start + 3))
        assert masks.shape == (3, 6, 8) and masks[:, 0, 0].tolist() == [n % 2 for n in part]
    whole = [np.asarray(each).tolist() for each in stored.batch("boxes", 0, 999)]
    assert len(whole) == len(numbers) and [0, 0, 0.5, 2] in [box for boxes in whole for box in boxes]
    assert len(stored.first(2).batch("text", 0, 64)) == 2


def test_a_name_that_is_none_and_targets_of_unlike_shape_are_said(tmp_path: Path) -> None:
    for source, said in (("wrong", "a target's name must be letters"), ("ragged", "target 'value' of sample")):
        folder = tmp_path / source
        folder.mkdir()
        with pytest.raises(ModelError, match=said):
            sampled(folder, source, (Output("regression", "r"),), None)


def test_masks_in_which_255_is_all_that_is_drawn_are_refused_whatever_the_source(tmp_path: Path) -> None:
    """255 is ignored, so nothing but the background was judged, and every answer was right."""
    with pytest.raises(
        ModelError, match=r"target 'mask' of all 6 eval samples .* holds no class but 0, and 255"
    ) as error:
        sampled(tmp_path, "black_and_white", (Output("segmentation", "m"),), None)
    assert "mask_values = [0, 255]" in error.value.hint


def test_a_task_takes_its_own_of_several_targets(tmp_path: Path) -> None:
    (tmp_path / "scenes.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "out").mkdir()
    data = Data("scenes.py:scenes", calibration_samples=4)
    run({"data_root": tmp_path}, data_spec(data, 0, "classification"), tmp_path / "out", lambda *_: None)
    found = files.read(tmp_path / "out", Sampled)
    assert found.targets is not None and np.load(tmp_path / "out" / "eval_targets.npy").dtype == np.int64
    assert np.array_equal(stored_targets(tmp_path / "out", found).batch("label", 0, 99), np.load(
        tmp_path / "out" / "eval_targets.npy"))  # fmt: skip
    with pytest.raises(ModelError, match="and task 'regression' is about 'value'"):
        run({"data_root": tmp_path}, data_spec(data, 0, "regression"), tmp_path / "out", lambda *_: None)
