"""What steps found goes into a report only as JSON can say it: no NaN, no infinity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.files import OutcomeFile
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import Measured, Verified
from pocketforge.plan.steps import Lane, Plan, Step, Timed
from pocketforge.recipe import Target
from pocketforge.recipe.limits import Limits
from pocketforge.recipe.target import Verify
from pocketforge.records import Report, TargetRecord
from pocketforge.results.agreement import compare_files
from pocketforge.run.store import Entry
from pocketforge.run.walk import Outcome
from pocketforge.specs.verify import VerifySpec

NAMES = ("one", "other")
MODEL = ModelTensor("y", (1, 3), "float32")
FILE = TensorSpec("y", (1, 3), "float32")


@pytest.fixture
def built(tmp_path: Path) -> Outcome:
    """Two float files of one model, of which the second answers NaN once."""
    outcome = Outcome()

    def stored(key: str, *said: OutcomeFile) -> Path:
        folder = tmp_path / key
        folder.mkdir()
        for each in said:
            files.write(folder, each)
        outcome.entries[key] = Entry(key, folder, {}, 0, 0.0, {})
        return folder

    stored("reference", Reference(1, 1, {}, 4, (MODEL,), (MODEL,)))
    for name in NAMES:
        (stored(f"export {name}", Exported({"model": "m.onnx"}, (), (FILE,))) / "m.onnx").write_bytes(b"onnx")
        verified = Verified({"model": Measured((), 4)}, {"r": "works"}, Limits({}), (), "AVX2", (FILE,))
        answers = np.arange(12, dtype=np.float32).reshape(4, 3)
        answers[1, 2] = math.nan if name == "other" else 0
        folder = stored(f"verify {name}", verified) / "model"
        folder.mkdir()
        np.save(folder / "outputs_0.npy", answers)
    return outcome


def lane(name: str) -> Lane:
    timed = Timed(via="host", verify="", bench=f"bench {name}")
    return Lane(Target(name, "onnx"), "", f"export {name}", f"verify {name}", {"host": timed}, "data", "reference")


def test_a_file_that_answers_nan_is_infinitely_far_from_the_other_and_the_report_is_json(built: Outcome) -> None:
    told = VerifySpec("onnx", "fp32", False, "regression", Verify(), "AVX2")
    steps = tuple(Step("verify", name, told, {}, f"verify {name}") for name in NAMES)
    (found,) = compare_files(Plan(steps, "data", "reference", tuple(map(lane, NAMES))), built)
    assert (found.sqnr_db, found.max_abs_diff) == (-1e308, 1e308)
    targets = tuple(TargetRecord(name, "onnx", "fp32", "wrong") for name in NAMES)
    text = Report("r", "0" * 64, "FAIL", targets, (), (), (), agreement=(found,)).to_text()
    assert "NaN" not in text and "Infinity" not in text


def test_of_sequences_files_are_compared_on_so_many_samples_by_each_one_s_last_class(built: Outcome) -> None:
    files.write(built.entries["reference"].files, Reference(1, 1, {}, 2, (MODEL,), (MODEL,)))
    for name, rows in zip(NAMES, ([[1, 0, 0]] * 4, [[0, 1, 0], [1, 0, 0]] * 2), strict=True):
        np.save(built.entries[f"verify {name}"].files / "model" / "outputs_0.npy", np.asarray(rows, np.float32))
    told = VerifySpec("onnx", "fp32", False, "classification", Verify(), "AVX2")
    steps = tuple(Step("verify", name, told, {}, f"verify {name}") for name in NAMES)
    (found,) = compare_files(Plan(steps, "data", "reference", tuple(map(lane, NAMES))), built)
    assert (found.samples, found.argmax_agreement) == (2, 1.0)
