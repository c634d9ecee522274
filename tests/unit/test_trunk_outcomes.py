"""What the trunk's stages say comes back from their files as it was, and the files hold no key that nobody set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pocketforge.errors import StageFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.gains import Flag
from pocketforge.outcomes.prune import (
    Block,
    BlocksReport,
    ChannelsReport,
    LayerZeros,
    LeftDense,
    Narrowed,
    PruneOutcome,
    ReachedGoal,
    Refit,
    Report,
    Size,
    Skipped,
    WeightsReport,
)
from pocketforge.outcomes.train import Epoch, TeacherFacts, TrainOutcome
from pocketforge.outcomes.verify import Verdict
from pocketforge.recipe.compress import Distill, Finetune, LayerPair, Teacher

REPORTS: dict[str, Report] = {
    "prune_unstructured": WeightsReport(
        (LayerZeros("a", 4, 2, 0.5),), 2, 4, 0.5, "l1", "global", "once", (), (LeftDense("b", "protected"),)
    ),
    "prune_channels": ChannelsReport(
        layers=(Narrowed("a", 16, 8), Narrowed("attention", 4, 2, heads=True)),
        macs=(100, 60),
        parameters=(10, 6),
        goal=ReachedGoal("macs", before=100.0, limit=60.0, reached=60.0),
        protected=("c",),
        skipped=(Skipped("d", "tied"),),
        warnings=(),
    ),
    "drop_layers": BlocksReport(
        candidates=(Block("a", None, 10, 2),),
        dropped=("a",),
        kept=(),
        cannot={"b": "breaks"},
        loss=(0.5, 0.6),
        macs=(100, 90),
        parameters=(10, 8),
        refitted=Refit("head", (8, 4), 0.1, 0.2, None),
        fits=(),
        goal=None,
    ),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_stands_beside_the_other_keys_and_comes_back(kind: str, tmp_path: Path) -> None:
    outcome = PruneOutcome(kind, (1, 2), Size(10, 100), Size(6, 60), REPORTS[kind])
    files.write(tmp_path, outcome)
    content = json.loads((tmp_path / "prune.json").read_text("utf-8"))
    assert content["type"] == kind and content["part"] == [1, 2] and "report" not in content
    assert content.keys() >= files.to_json(REPORTS[kind]).keys()
    assert files.read(tmp_path, PruneOutcome) == outcome
    (tmp_path / "prune.json").write_text(json.dumps({**content, "more": 1}), "utf-8")
    with pytest.raises(StageFailed, match=r"prune.json does not hold what a stage writes"):
        files.read(tmp_path, PruneOutcome)


def test_an_epoch_has_the_figures_that_there_are(tmp_path: Path) -> None:
    history = (Epoch(1, 0.5, 1e-3, train_accuracy=0.25), Epoch(2, 0.125, 1e-4, teacher_loss=0.0))
    settings = Finetune(
        epochs=3, distill=Distill(Teacher("t.py", "t.safetensors", {"n": 1}), hints=(LayerPair("a", "b"),))
    )
    outcome = TrainOutcome(10, 5, settings, history, stopped_early=True, teacher=TeacherFacts("t.py", 0.9))
    files.write(tmp_path, outcome)
    content = json.loads((tmp_path / "train.json").read_text("utf-8"))
    assert content["history"][1] == {"epoch": 2, "loss": 0.125, "lr": 1e-4, "teacher_loss": 0.0}
    assert content["teacher"] == {"definition": "t.py", "accuracy_top1": 0.9}
    assert files.read(tmp_path, TrainOutcome) == outcome
    assert history[0].figures() == {"loss": 0.5, "lr": 1e-3, "train_accuracy": 0.25}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "wanted the keys of Verdict, found list"),
        ("7", "wanted the keys of Verdict, found int"),
        ('{"passed": true, "reasons": "ab"}', "wanted a list, found str"),
        ('{"passed": true, "reasons": {"ab": 1}}', "wanted a list, found dict"),
        ('{"passed": 1}', "wanted bool, found int"),
        ('{"passed": true, "more": 1}', "more"),
        ('{"passed": tr', "Expecting value"),
    ],
)
def test_a_file_of_another_form_is_one_clear_error(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / Verdict.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(StageFailed, match=re.escape(fault)) as caught:
        files.read(tmp_path, Verdict)
    assert str(tmp_path / Verdict.FILE) in caught.value.message


def test_a_pair_is_two() -> None:
    table = {"label": "a", "runtime": "onnx", "verdict": "no_gain", "macs": [1, 2, 3], "ratio": [1, 1, 1], "layers": []}
    with pytest.raises(ValueError, match="wanted 2 values, found 3"):
        files.from_json(table, Flag)
