"""Outputs with roles through a whole build: each is judged by its own targets and metrics, and a broken one is named.

The nets are small, their data are real scans of digits, and their heads are fitted in a second (tests/e2e/roles).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Done, in_process

from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.prune import ChannelsReport, PruneOutcome
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.outcomes.verify import FileCheck, Verdict, Verified
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages import verify

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
HERE = Path(__file__).resolve().parent / "roles"
FIT = "import sys; from pathlib import Path; import fit; fit.fit(Path('weights.pt'))"


class Built:
    """A finished build, and the folders of its steps."""

    def __init__(self, folder: Path, done: Done) -> None:
        self.folder, self.done = folder, done
        self.report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
        self.steps = {step["stage"]: self._entry(step["key"]) for step in self.report["steps"]}

    def _entry(self, key: str) -> Path:
        return self.folder / "cache" / "v1" / "entries" / key[:2] / key

    def of(self, stage: str) -> Path:
        return self.steps[stage] / "files"

    @property
    def spec(self) -> VerifySpec:
        manifest = json.loads((self.steps["verify"] / "manifest.json").read_text(encoding="utf-8"))
        return files.from_json(manifest["meta"]["spec"], VerifySpec)

    def verified(self, edit: Callable[[Any], None], scratch: Path) -> tuple[dict[str, FileCheck], Verified]:
        """The stage on the exported file after an edit: the failed checks by name, and what it wrote."""
        import onnx

        export, out = scratch / "export", scratch / "verify"
        shutil.copytree(self.of("export"), export)
        out.mkdir()
        exported = json.loads((export / "export.json").read_text(encoding="utf-8"))
        exported["files"] = {"model": exported["files"]["model"]}
        (export / "export.json").write_text(json.dumps(exported), encoding="utf-8")
        path = export / exported["files"]["model"]
        model = onnx.load(path)
        edit(model)
        path.write_bytes(model.SerializeToString())
        inputs = {
            "data": self.of("data"), "reference": self.of("reference"), "export": export, "data_root": self.folder
        }  # fmt: skip
        verify.run(inputs, self.spec, out, lambda fraction, message: None)
        found = files.read(out, Verified)
        failed = {each.name: each for each in found.checks if not each.passed}
        assert files.read(out, Verdict).passed == (not failed)
        return failed, found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("roles") / "build"
    shutil.copytree(HERE, folder)
    (folder / "digits.txt").write_text("".join(f"{digit}\n" for digit in range(10)), encoding="utf-8")
    subprocess.run([sys.executable, "-c", FIT], cwd=folder, check=True, timeout=300)
    done = in_process("build", "recipe.toml", "--out", "out", "--json", cache=folder / "cache", cwd=folder)
    return Built(folder, done)


def test_a_head_for_every_role_passes(built: Built) -> None:
    assert (built.done.code, built.report["verdict"]) == (0, "PASS"), built.done.stderr
    scores = {score["output"]: score for score in built.report["targets"][0]["facts"]["files"]["model"]["scores"]}
    metrics = {name: score["metrics"] for name, score in scores.items()}
    roles = {score["role"] for score in scores.values()}
    assert roles == {
        "logits", "multilabel", "binary", "regression", "segmentation", "keypoints", "heatmap", "embedding", "tokens",
        "sequence", "image", "waveform", "boxes",
    }  # fmt: skip
    assert metrics["number"].keys() == {"accuracy_top1", "macro_f1", "auroc", "worst_digit"}
    for output, metric in (
        ("number", "accuracy_top1"), ("traits", "macro_f1"), ("odd", "binary_accuracy"), ("ink", "spearman"),
        ("ink_mask", "miou"), ("middle", "pck"), ("peak", "pck"), ("vector", "recall_at_1"), ("rows", "token_accuracy"),
        ("box", "map_50"),
    ):  # fmt: skip
        assert 0.9 < metrics[output][metric] <= 1, (output, metric, metrics[output])
    assert metrics["letters"]["wer"] < 0.1 and metrics["picture"]["psnr_db"] > 25 and metrics["sound"]["si_sdr_db"] > 10
    assert all(abs(loss) < 0.01 for score in scores.values() for loss in score["drops"].values())
    assert set(scores["number"]["classes"]["macro_f1"]) == {str(digit) for digit in range(10)}


def test_every_role_is_pruned_by_its_loss_and_trained_again(built: Built) -> None:
    """The features lose a quarter by what all heads say, and come back with the whole model to learn from."""
    pruned = files.read(built.of("prune"), PruneOutcome)
    assert isinstance(pruned.report, ChannelsReport)
    assert {layer.name: layer.after for layer in pruned.report.layers} == {"features": 296}
    trained = files.read(built.of("finetune"), TrainOutcome)
    assert trained.teacher is not None and trained.teacher.accuracy_top1 is None and trained.teacher.loss is not None
    losses = [epoch.output_losses or {} for epoch in trained.history]
    assert set(losses[0]) == set(HEADS)  # the state has none
    assert sum(losses[1][name] < losses[0][name] for name in HEADS) > len(HEADS) // 2
    states = built.report["compression"]["states"]
    assert [state["metric"] for state in states] == ["number.accuracy_top1"] * 3
    assert states[1]["loss"] > states[2]["loss"] and min(state["value"] for state in states) > 0.9


def test_what_the_model_was_worth_before_is_beside_it(built: Built) -> None:
    before = files.read(built.of("reference"), Reference)
    after = files.read(built.of("verify"), Verified).files["model"]
    assert [score.output for score in before.scores] == [score.output for score in after.scores]
    for one, other in zip(before.scores, after.scores, strict=True):
        assert not one.drops and set(other.drops) == set(one.metrics)
        for name, drop in other.drops.items():
            assert abs(abs(one.metrics[name] - other.metrics[name]) - abs(drop)) < 1e-8, (one.output, name)
    named = {each.name: each for each in files.read(built.of("data"), Sampled).named}
    assert named["mask"].shape == (8, 8) and not named["mask"].ragged
    assert named["boxes"].ragged and named["boxes"].shape == (4,) and named["text"].dtype == "str"


def test_budgets_of_outputs_are_by_their_names(built: Built) -> None:
    gates = {gate["budget"]["metric"]: gate for gate in built.report["gates"]}
    assert gates["metric"]["measurement"]["how"]["output"] == "number"
    assert gates["miou"]["measurement"]["how"]["output"] == "ink_mask"
    assert gates["letters.wer_drop"]["measurement"]["metric"] == "wer_drop"
    assert gates["worst_digit"]["verdict"] == "PASS"


def test_the_sidecar_says_what_each_output_is(built: Built) -> None:
    sidecar = json.loads((built.folder / "out" / "release" / "float.json").read_text(encoding="utf-8"))
    roles = {each["name"]: each for each in sidecar["output_roles"]}
    assert roles["letters"]["role"] == "sequence"
    assert roles["letters"]["post"] == {"type": "ctc_greedy", "alphabet": "0123456789"}
    assert roles["ink_mask"]["post"] == {"type": "sigmoid", "threshold": 0.5}
    assert roles["number"]["labels"] is True and roles["traits"]["labels"] is False
    assert roles["memory"] == {"name": "memory", "role": "state", "post": {"type": "none"}, "labels": False}


HEADS = (
    "number", "traits", "odd", "ink", "ink_mask", "middle", "peak", "vector", "rows", "letters", "picture", "sound",
    "box", "sure",
)  # fmt: skip


def change(model: Any, name: str, edit: Callable[[Any], Any]) -> None:
    """An initializer's values."""
    import onnx

    (found,) = [each for each in model.graph.initializer if each.name == name]
    values = np.array(edit(onnx.numpy_helper.to_array(found)))
    found.CopyFrom(onnx.numpy_helper.from_array(values, name))


def dead(model: Any, head: str) -> None:
    for part in ("weight", "bias"):
        names = {each.name for each in model.graph.initializer}
        if f"{head}.{part}" in names:
            change(model, f"{head}.{part}", np.zeros_like)


def outputs_of(checks: Mapping[str, FileCheck]) -> set[str]:
    return {name.rpartition(" of ")[2] for name in checks}


def test_a_file_that_nobody_touched_passes(built: Built, tmp_path: Path) -> None:
    failed, _ = built.verified(lambda model: None, tmp_path)
    assert failed == {}


@pytest.mark.parametrize("head", ["number", "ink_mask", "box"])
def test_a_dead_head_is_named_and_no_other(built: Built, tmp_path: Path, head: str) -> None:
    failed, _ = built.verified(lambda model: dead(model, head), tmp_path)
    assert outputs_of(failed) == {head}, failed
    assert f"sqnr_db of {head}" in failed
    shares = {"number": "accuracy_top1", "ink_mask": "miou", "box": "map"}
    if head in shares:
        assert f"{shares[head]} drop of {head}" in failed


def test_every_metric_sees_a_head_that_answers_nothing(built: Built, tmp_path: Path) -> None:
    """All heads at once: one run shows that no metric of any role can miss it."""

    def all_dead(model: Any) -> None:
        for head in HEADS:
            dead(model, head)

    failed, found = built.verified(all_dead, tmp_path)
    assert outputs_of(failed) == set(HEADS)  # the state has no head
    worse = {score.output: score.drops for score in found.files["model"].scores}
    for output, drops in worse.items():
        assert all(drop > 0.02 for drop in drops.values()), (output, drops)


def test_two_outputs_of_one_shape_that_changed_places_are_both_named(built: Built, tmp_path: Path) -> None:
    def swap(model: Any) -> None:
        names = {"odd": "ink", "ink": "odd", "ink_mask": "peak", "peak": "ink_mask"}
        for node in model.graph.node:
            node.output[:] = [names.get(name, name) for name in node.output]

    failed, found = built.verified(swap, tmp_path)
    assert outputs_of(failed) == {"odd", "ink", "ink_mask", "peak"}, failed
    drops = {score.output: score.drops for score in found.files["model"].scores}
    assert drops["odd"]["binary_accuracy"] > 0.1 and drops["ink_mask"]["miou"] > 0.2 and drops["peak"]["pck"] > 0.2


def test_a_wrong_decoding_is_named(built: Built, tmp_path: Path) -> None:
    """Letters in another order, corners as corner and size: values as large as before, and wrong."""

    def turned(model: Any) -> None:
        for part in ("weight", "bias"):
            change(model, f"letters.{part}", lambda a: a.reshape(8, 11, -1)[:, ::-1].reshape(a.shape))
            change(model, f"box.{part}", lambda a: a[[1, 0, 3, 2]])

    failed, found = built.verified(turned, tmp_path)
    assert outputs_of(failed) == {"letters", "box"}, failed
    drops = {score.output: score.drops for score in found.files["model"].scores}
    assert drops["letters"]["wer"] > 0.5 and drops["box"]["map"] > 0.1
