"""What steps found goes into a report only as JSON can say it: no NaN, no infinity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pocketforge.errors import ModelError
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
from pocketforge.records import Report, StepRecord, TargetRecord
from pocketforge.report import junit, markdown, terminal
from pocketforge.results.agreement import compare_files
from pocketforge.results.targets import target_record
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
        exported = Exported({"model": "m.onnx"}, (), (FILE,), {"model": 20})
        (stored(f"export {name}", exported) / "m.onnx").write_bytes(b"onnx")
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


def failed(*skipped: str, own: bool) -> Outcome:
    """A trunk that failed, or a lane's own step."""
    failing = "export one" if own else "reference"
    record = StepRecord("export" if own else "reference", "one" if own else "trunk", failing, "failed", message="m")
    outcome = Outcome(records={failing: record})
    outcome.errors[failing] = ModelError("the model cannot be traced: no .item()", "write it with tensors")
    for key in skipped:
        stage, _, target = key.partition(" ")
        outcome.records[key] = StepRecord(stage, target, key, "skipped", message="x was skipped")
        outcome.causes[key] = failing
    return outcome


@pytest.mark.parametrize("own", [True, False], ids=["its own step", "the trunk"])
def test_a_failed_target_says_what_was_met_and_what_to_try(own: bool) -> None:
    skipped = ["verify one", "bench one", *([] if own else ["export one"])]
    record = target_record(lane("one"), failed(*skipped, own=own), {})
    where = "" if own else "reference[trunk] failed: "
    assert (record.status, record.hint) == ("failed", "write it with tensors")
    assert record.error == f"{where}the model cannot be traced: no .item()"
    report = Report("r", "0" * 64, "ERROR", (record,), (), (), ())
    for text in (terminal.write(report), markdown.write(report), junit.write(report)):
        assert "write it with tensors" in text


def test_a_target_behind_a_step_that_said_no_says_so() -> None:
    outcome = Outcome(records={"bench one": StepRecord("bench", "one", "bench one", "skipped", message="x said no")})
    outcome.causes["bench one"] = "verify one"
    record = target_record(lane("one"), outcome, {})
    assert (record.error, record.hint) == ("x said no", "")
