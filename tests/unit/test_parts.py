"""An output held against the reference part by part, with errors where a figure over the whole would not see them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pocketforge.metrics import PERFECT_SQNR_DB, channel_axes, compare


def head(samples: int = 20, seed: int = 0) -> np.ndarray:
    """A detector's output, [N, 7, 36]: four coordinates up to 640, three scores under a quarter."""
    rng = np.random.default_rng(seed)
    boxes, scores = rng.uniform(0, 640, (samples, 4, 36)), rng.uniform(0.06, 0.22, (samples, 3, 36))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def rounded(values: np.ndarray, scale: float) -> np.ndarray:
    return (np.rint(values / scale) * scale).astype(np.float32)


def test_scores_that_share_the_boxes_scale_are_dead_by_name() -> None:
    reference = head()
    found = compare(rounded(reference, 640 / 255), reference)
    assert found.sqnr_db > 40, "the figure over the whole tensor sees nothing"
    assert (found.dead, found.dead_count) == ("channels 4-6", 3)
    assert found.channel is not None and found.channel.where in {"channel 4", "channel 5", "channel 6"}
    assert found.channel.sqnr_db < 0


def test_the_same_with_the_channels_last() -> None:
    reference = np.ascontiguousarray(head().swapaxes(1, 2))
    found = compare(rounded(reference, 640 / 255), reference)
    assert (found.dead, found.dead_count) == ("4-6 of axis 2", 3)


def test_two_parts_with_scales_of_their_own_are_whole() -> None:
    boxes, scores = np.split(head(), [4], 1)
    for part, scale in ((boxes, 640 / 255), (scores, 0.22 / 255)):
        found = compare(rounded(part, scale), part)
        assert found.dead == "" and found.channel is not None and found.channel.sqnr_db > 30


@pytest.mark.parametrize("shape", [(40, 1), (40,), (40, 3, 5, 5)])
def test_an_offset_hides_no_answer_that_never_changes(shape: tuple[int, ...]) -> None:
    reference = (1013 + 0.3 * np.random.default_rng(1).normal(size=shape)).astype(np.float32)
    found = compare(np.full(shape, 1013.216, np.float32), reference)
    assert found.sqnr_db < 0 and found.dead_count == (3 if len(shape) == 4 else 1)
    assert found.max_diff_ratio > 0.25
    near = compare(reference + np.float32(1e-4), reference)
    assert near.sqnr_db > 60 and near.dead == ""


def test_float32s_own_rounding_beside_an_offset_is_no_noise() -> None:
    """A channel that hardly varies is measured as if it varied by float32's precision of its values."""
    reference = (1e4 + 1e-3 * np.random.default_rng(2).normal(size=(50, 2))).astype(np.float32)
    assert compare(np.nextafter(reference, np.float32(0)), reference).sqnr_db > 60


def test_a_channel_that_never_changes_in_the_reference_is_not_dead() -> None:
    reference = head()
    reference[:, 2] = 5.0
    found = compare(reference, reference)
    assert found.sqnr_db == PERFECT_SQNR_DB and found.dead == ""
    wrong = reference.copy()
    wrong[:, 2] = 4.0
    assert compare(wrong, reference).sqnr_db < 60, "what it should be still counts"


def test_the_border_of_a_map_is_measured_apart() -> None:
    reference = np.random.default_rng(3).normal(size=(4, 3, 40, 40)).astype(np.float32)
    outputs = reference + 0.001
    outputs[:, :, -1] += 0.5
    outputs[:, :, :, -1] += 0.3
    found = compare(outputs, reference)
    assert found.sqnr_db > 15
    assert found.region is not None and found.region.where == "row 39" and found.region.sqnr_db < 8


def test_a_quiet_row_is_held_against_its_map() -> None:
    reference = np.random.default_rng(4).normal(size=(4, 3, 8, 8)).astype(np.float32)
    reference[:, :, 0] *= 1e-3
    found = compare(reference + np.float32(0.01), reference)
    assert found.region is not None and found.region.sqnr_db > 28


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((9, 10), (1,)), ((9, 7, 36), (1, 2)), ((9, 3, 8, 8), (1,)), ((9, 8, 8, 3), (3,)), ((9, 2, 3, 4, 5), (1,))],
)
def test_which_axes_may_hold_channels(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    assert channel_axes(shape) == axes


def test_nhwc_channels_and_rows_have_their_names() -> None:
    reference = np.random.default_rng(5).normal(size=(2, 9, 8, 3)).astype(np.float32)
    outputs = reference.copy()
    outputs[..., 1] = 0
    found = compare(outputs, reference)
    assert found.dead == "channel 1"
    outputs = reference.copy()
    outputs[:, 8] += 1
    found = compare(outputs, reference)
    assert found.region is not None and found.region.where == "row 8"


def test_classes_share_a_scale() -> None:
    """Classes that no sample is of hardly vary: that they are rounded to nothing is no fault of the file's."""
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(60, 40)) * np.where(np.arange(40) < 5, 5.0, 0.02)
    reference = logits.astype(np.float32)
    file = rounded(reference, 40 / 255)
    assert compare(file, reference).dead_count > 0
    found = compare(file, reference, classes=True)
    assert found.dead == "" and found.channel is not None and found.channel.sqnr_db > 0
    file[:, 2] = reference[:, 2].mean()
    assert compare(file, reference, classes=True).dead == "channel 2"


def test_probabilities_under_a_step_are_not_told_apart() -> None:
    rng = np.random.default_rng(7)
    reference = np.stack([rng.uniform(0, 1, 50), rng.uniform(0, 1e-3, 50)], 1).astype(np.float32)
    file = rounded(reference, 1 / 256)
    assert compare(file, reference).dead == ""
    assert compare(file, np.array([1, 100], np.float32) * reference).dead_count == 1


def test_a_few_samples_judge_no_channel() -> None:
    reference = np.random.default_rng(8).normal(size=(5, 3)).astype(np.float32)
    found = compare(np.zeros_like(reference), reference)
    assert found.channel is None and found.dead == "" and found.sqnr_db < 3


def test_many_samples_are_read_a_few_at_a_time() -> None:
    """Sums over chunks are those over all."""
    import pocketforge.metrics as parts

    reference = head(300)
    outputs = rounded(reference, 0.01)
    whole = compare(outputs, reference)
    before, parts._CHUNK_VALUES = parts._CHUNK_VALUES, 1000
    try:
        assert compare(outputs, reference).sqnr_db == pytest.approx(whole.sqnr_db)
    finally:
        parts._CHUNK_VALUES = before


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted outputs of shape \[2, 3, 4\], found \[2, 4, 3\]"):
        compare(np.zeros((2, 4, 3)), np.zeros((2, 3, 4)))


def test_what_is_not_finite_is_as_wrong_as_can_be() -> None:
    found = compare(np.array([[math.nan, 1.0]]), np.ones((1, 2)))
    assert found.sqnr_db == -math.inf and found.max_diff_ratio == math.inf
