"""Which layer `why` blames where every layer is right as a whole: the one whose scale is too wide for a channel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pocketforge.outcomes.data import Counts
from pocketforge.outcomes.quantize import CalibratedRange
from pocketforge.recipe.output import Output, OwnLimits
from pocketforge.recipe.target import Verify
from pocketforge.registries import Why
from pocketforge.specs.trained import ModelSource
from pocketforge.specs.why import WhySpec
from pocketforge.why.causes import calibrate_further, cut_by_observer, likely
from pocketforge.why.chain import Chain
from pocketforge.why.forms import Form, converted
from pocketforge.why.inside import layers_of_stage
from pocketforge.why.layer_outputs import Difference, LayerDifference, first_bad
from pocketforge.why.limits import limit_for
from pocketforge.why.worst_samples import worst_first


def _layer(name: str, op: str, before: np.ndarray, here: np.ndarray) -> LayerDifference:
    seen = Difference()
    for index in range(len(before)):
        seen.add(before[index : index + 1], here[index : index + 1])
    return LayerDifference(name, op, seen, seen)


def test_a_channel_that_a_shared_scale_rounds_away_names_its_layer() -> None:
    rng = np.random.default_rng(0)
    joined = np.concatenate([rng.uniform(0, 640, (16, 4, 9)), rng.uniform(0.06, 0.22, (16, 3, 9))], 1)
    step = 640 / 255
    rows = [
        _layer("c", "conv2d", joined[:, :4], joined[:, :4] + 1e-3 * rng.normal(size=(16, 4, 9))),
        _layer("cat", "cat", joined, np.rint(joined / step) * step),
    ]
    assert rows[1].seen.sqnr_db > 40, "the layer as a whole is right"
    worst = first_bad(rows, 18.0)
    assert worst is rows[1]
    assert "return them as outputs of their own" in likely(worst, "prepared", limit_db=18.0)


def test_an_offset_that_takes_up_a_layers_range_is_said() -> None:
    rng = np.random.default_rng(1)
    values = 1013 + 0.3 * rng.normal(size=(16, 1))
    wrong = np.where(values > 1013.1, 1013.216, 1009.2)
    rows = [_layer("a", "linear", values, values + 1e-6), _layer("b", "linear", values, wrong)]
    worst = first_bad(rows, 18.0)
    assert worst is rows[1] and worst.seen.sqnr_db > 18
    assert "an offset of 1013" in likely(worst, "prepared", limit_db=18.0)


def test_an_output_that_joined_ones_round_to_nothing_is_said() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0.06, 0.22, (16, 3, 9))
    row = _layer("sigmoid_1", "sigmoid", scores, np.zeros_like(scores))
    assert first_bad([row], 18.0) is row
    assert "shares the scale of what it is joined to" in likely(row, "prepared", limit_db=18.0)


def test_values_that_calibration_did_not_see_are_said_to_be_cut_off() -> None:
    rng = np.random.default_rng(3)
    logits = rng.uniform(-3.4, 4.0, (16, 4))
    logits[3, 1] = 5.06
    cut = np.rint(np.clip(logits, -3.1, 4.06) / 0.028) * 0.028
    row = _layer("fc", "linear", logits, cut)
    said = likely(row, "prepared", unseen=calibrate_further(_counts(100, 300), None))
    assert "a clipped range: its output ends at -3.108 and 4.06 where" in said
    assert said.endswith(
        "; calibration saw 100 samples, which had no such values: write calibration_samples = 250 under [data]"
    )
    assert "calibration" not in likely(row, "runtime", unseen="more calibration samples")
    rounded = _layer("fc", "linear", logits, logits + rng.normal(0, 0.4, logits.shape))
    assert "clipped" not in likely(rounded, "prepared")


def test_values_that_calibration_saw_and_left_out_are_told_from_those_it_did_not_see() -> None:
    logits = np.random.default_rng(3).uniform(-3.4, 4.0, (16, 4))
    logits[3, 1] = 5.06
    row = _layer("fc", "linear", logits, np.clip(logits, -3.1, 4.06))
    seen = CalibratedRange("fc (output of linear)", -3.5, 5.2, 0.028, 0)
    said = cut_by_observer(row, (CalibratedRange("fc.1 (output of linear)", -9, 9), seen), "histogram")
    assert said.startswith('calibration saw -3.5 to 5.2 there, and calibration "histogram" leaves out what is rare')
    assert 'calibration = "minmax"' in likely(row, "prepared", unseen=said)
    assert cut_by_observer(row, (seen,), "minmax") == ""
    assert cut_by_observer(row, (dataclasses.replace(seen, high=4.1),), "histogram") == "", "it did not see 5.06"
    assert cut_by_observer(row, (), "histogram") == ""


def test_the_samples_that_a_file_answers_worst_are_looked_at_first() -> None:
    wanted = np.random.default_rng(0).normal(size=(20, 3))
    found = wanted.copy()
    found[[17, 4, 9], 1] += (3.0, 0.5, np.nan)
    labels = np.arange(20)
    wrong = labels.copy()
    wrong[11] = -1
    assert worst_first([found, wrong], [wanted, labels], 8) == [9, 11, 17, 4, 0, 1, 2, 3]
    assert worst_first([wanted], [wanted], 6) == [0, 1, 2, 3, 4, 5]
    assert worst_first([found], [wanted], 99) == [9, 17, 4, *(n for n in range(20) if n not in (4, 9, 17))]


def _counts(calibration: int, train: int) -> Counts:
    return Counts(calibration + train + 64, calibration, train, 64, 0, 0)


@pytest.mark.parametrize(
    ("calibration", "train", "most", "said"),
    [
        (100, 5000, None, "write calibration_samples = 400 under [data]"),
        (8, 20, None, "write calibration_samples = 18 under [data]"),
        (100, 1, None, "the data has no more to calibrate with: add some"),
        (100, 5000, 20, "calibration saw 20 of the 100 samples that are set apart for it: leave quantize.calib"),
        (100, 5000, 100, "write calibration_samples = 400 under [data]"),
    ],
)
def test_how_many_samples_to_calibrate_with_is_said_as_the_line_to_write(
    calibration: int, train: int, most: int | None, said: str
) -> None:
    assert said in calibrate_further(_counts(calibration, train), most)


def _chain(tmp_path: Path, how: Why | None) -> Any:
    """As much of a chain as its last form, the file, is looked into by."""
    np.save(tmp_path / "few.npy", np.zeros((2, 3), np.float32))
    forms = [Form(name, "", outputs=[np.zeros((2, 3))]) for name in ("converted", "runtime")]
    samples = [np.zeros((2, 3), np.float32)]
    return SimpleNamespace(forms=forms, samples=samples, few=[tmp_path / "few.npy"], why=how, file=Path("a.other"))


def test_a_runtime_that_shows_no_layers_is_said_and_is_not_taken_for_another(tmp_path: Path) -> None:
    found = layers_of_stage(_chain(tmp_path, None), "runtime", bad=True)
    assert not found.rows
    assert found.missing == "no layer of a .other file can be seen: its runtime's row has no `why`"
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        layers_of_stage(_chain(tmp_path, Why("folded", lowered="no_such_module")), "runtime", bad=True)


def test_an_unknown_runtime_is_an_error(tmp_path: Path) -> None:
    spec = WhySpec("a", "nobody", "fp32", False, "regression", Verify(), ModelSource("m.py", {}, 0), None, 10)
    with pytest.raises(KeyError, match="nobody"):
        Chain({}, spec, tmp_path, lambda done, message: None)
    (tmp_path / "unfolded.pt2").touch()
    with pytest.raises(KeyError, match="nobody"):
        converted({"quantize": tmp_path}, spec, Form("exported", ""))


@pytest.mark.parametrize("name", ["", "y"])
def test_limits_of_the_only_output_are_verify_s_whether_it_has_a_name_or_not(name: str) -> None:
    judged = (Output("logits", name, limits=OwnLimits(min_sqnr_db=3.0)),)
    model = ModelSource("m.py", {}, 0)
    spec = WhySpec("a", "onnx", "static_int8", False, "classification", Verify(), model, None, 10, judged)
    assert limit_for("prepared", "exported", spec, "y").min_sqnr_db == 3.0
