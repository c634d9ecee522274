"""Stage `verify_device` of a model with states, on a device that is played here: what it is given, and who fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.devices import adb
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, NamedTarget, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import ModelTensor, Reference, StateFed, StepSequence
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import Verdict
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.recipe.output import Output
from pocketforge.specs.places import PhonePlace
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge.stages import verify_device

SAMPLES, STEPS = 6, 3
TAKES = (TensorSpec("x", (1, 4), "float32"), TensorSpec("h", (2, 1, 4), "float32"))
GIVES = (
    TensorSpec("scores", (1, 4), "float32"),
    TensorSpec("h_out", (2, 1, 4), "float32"),
    TensorSpec("more", (1, 3), "float32"),
)
JUDGED = (Output("logits", "scores"), Output("state", "h_out"), Output("logits", "more", target="kind"))
Answer = dict[str, np.ndarray]


def step(x: np.ndarray, h: np.ndarray) -> Answer:
    """Of rows: the state of both layers goes into the answer."""
    after = np.tanh(h + np.stack([x, -x / 2], 1)[:, :, None])
    scores = x + after[:, 0, 0] - after[:, 1, 0]
    return {"scores": scores, "h_out": after, "more": scores[:, :3] ** 2}


def over_sequences(x: np.ndarray) -> tuple[Answer, np.ndarray]:
    """What the file on the host answers, and the state that each row began from."""
    rows: list[Answer] = []
    for row in range(len(x)):
        h = rows[-1]["h_out"] if row % STEPS else np.zeros((1, 2, 1, 4), np.float32)
        rows.append({**step(x[row : row + 1], h), "h": h})
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return whole, whole.pop("h")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Folders of the steps before."""
    folders = {name: tmp_path / name for name in ("data", "reference", "export", "verify")}
    for folder in (*folders.values(), folders["verify"] / "model"):
        folder.mkdir()
    x = np.random.default_rng(0).normal(size=(SAMPLES * STEPS, 4)).astype(np.float32)
    answers, _ = over_sequences(x)
    for number, name in enumerate(("scores", "h_out", "more")):
        for folder in (folders["reference"], folders["verify"] / "model"):
            np.save(folder / f"outputs_{number}.npy", answers[name])
    np.save(folders["data"] / "eval_0.npy", x)
    np.save(folders["data"] / "eval_1.npy", np.zeros((SAMPLES * STEPS, 2, 1, 4), np.float32))
    named = []
    for target, name in (("label", "scores"), ("kind", "more")):
        np.save(folders["data"] / f"eval_target_{target}.npy", answers[name][STEPS - 1 :: STEPS].argmax(1))
        named.append(NamedTarget(target, (), "int64"))
    tensors = (SampleTensor((4,), "float32"), SampleTensor((2, 1, 4), "float32"))
    counts = Counts(SAMPLES, 0, 0, SAMPLES, 0, 0)
    no_steps = Preprocessing(None, None, ())
    more: dict[str, Any] = {"named": tuple(named), "steps": STEPS}
    files.write(folders["data"], Sampled("f", "outputs", (), counts, {}, tensors, None, no_steps, None, (), **more))
    (folders["export"] / "model.bin").write_bytes(b"model")
    files.write(folders["export"], Exported({"model": "model.bin"}, TAKES, GIVES))
    takes, gives = (tuple(ModelTensor(t.name, t.shape, t.dtype) for t in side) for side in (TAKES, GIVES))
    sequence = StepSequence(STEPS, (StateFed(1, 1, whole=True),))
    files.write(folders["reference"], Reference(1, 1, {}, SAMPLES, takes, gives, sequence=sequence))
    return {**folders, "data_root": tmp_path}


@pytest.fixture
def run(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Verdict, VerifiedThere]]:
    def on_device(change: Callable[[Answer], None] = lambda _: None, samples: int = 0) -> tuple[Verdict, VerifiedThere]:
        def device(request: RunRequest) -> RunAnswer:
            x, h = (np.load(path) for path in request.inputs)
            given.append((x, h))
            answers = step(x, h)
            change(answers)
            for number, name in enumerate(("scores", "h_out", "more")):
                np.save(request.outputs / f"outputs_{number}.npy", answers[name])
            return RunAnswer(TAKES, GIVES, 1.0, 1, 1, (), "r 1", (), ())

        monkeypatch.setattr(adb, "run", device)
        place = PhonePlace("adb", "all", 60.0, "phone")
        spec = VerifyDeviceSpec("onnx", "fp32", "outputs", place, samples, DeviceLimits(), judged=JUDGED)
        out = tmp_path / "out"
        out.mkdir()
        verify_device.run(inputs, spec, out, lambda fraction, message: None)
        return files.read(out, Verdict), files.read(out, VerifiedThere)

    given: list[tuple[np.ndarray, np.ndarray]] = []
    on_device.given = given  # type: ignore[attr-defined]
    return on_device


@pytest.mark.parametrize("samples", [0, 2])
def test_each_step_begins_from_the_host_s_state(run: Any, inputs: dict[str, Path], samples: int) -> None:
    verdict, verified = run(samples=samples)
    assert verdict.passed, verdict.reasons
    rows = (samples or SAMPLES) * STEPS
    whole = np.load(inputs["data"] / "eval_0.npy")
    ((x, h),) = run.given
    assert np.array_equal(x, whole[:rows]) and np.array_equal(h, over_sequences(whole)[1][:rows])
    assert verified.device.samples == (samples or SAMPLES)
    assert {each.output: each.metrics["accuracy_top1"] for each in verified.device.scores} == {"scores": 1, "more": 1}
    assert [each.argmax_agreement for each in verified.host.outputs] == [1.0, None, 1.0]


def swapped(name: str, start: int) -> Callable[[Answer], None]:
    """Its classes in another order, in one step of each sequence."""

    def change(answers: Answer) -> None:
        answers[name][start::STEPS] = answers[name][start::STEPS, ::-1]

    return change


@pytest.mark.parametrize("name", ["scores", "more"])
def test_another_class_in_the_last_step_fails_by_the_output_s_name(run: Any, name: str) -> None:
    verdict, verified = run(swapped(name, STEPS - 1))
    assert not verdict.passed
    assert any(f"argmax_agreement of {name}:" in reason for reason in verdict.reasons), verdict.reasons
    found = {each.output: each.drops["accuracy_top1"] for each in verified.device.scores}
    assert found[name] > 0 and min(found.values()) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["scores", "h_out", "more"])
def test_an_output_that_is_no_number_fails_by_its_name(run: Any, name: str, value: float) -> None:
    def change(answers: Answer) -> None:
        answers[name][-1] = value

    verdict, verified = run(change)
    assert not verdict.passed and all(f" of {name}" in reason for reason in verdict.reasons), verdict.reasons
    wanted = set() if name == "h_out" else {name}
    assert {each.output for each in verified.device.scores} == {"scores", "more"} - wanted
    assert any(f"metrics of {name}" in reason for reason in verdict.reasons) == bool(wanted)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_file_made_elsewhere_without_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """Its inputs stand in another order than samples, its outputs have names of its own; the host's answers and the
    targets are all that there is."""
    folders = {name: tmp_path / name for name in ("data", "export", "verify", "verify/model", "out")}
    for folder in folders.values():
        folder.mkdir()
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(20, width)).astype(np.float32) for width in (3, 2))
    scores = np.concatenate([a[:, :2] + b, a[:, 2:]], 1)
    np.save(folders["verify/model"] / "outputs_0.npy", scores)
    for number, values in enumerate((a, b)):
        np.save(folders["data"] / f"eval_{number}.npy", values)
    np.save(folders["data"] / "eval_targets.npy", scores.argmax(1))
    counts, tensors = Counts(20, 0, 0, 20, 0, 0), (SampleTensor((3,), "float32"), SampleTensor((2,), "float32"))
    of_target = SampleTensor((), "int64")
    no_steps = Preprocessing(None, None, ())
    data = Sampled("f", "classification", (), counts, {}, tensors, of_target, no_steps, None, ())
    files.write(folders["data"], data)
    takes = (TensorSpec("b", (1, 2), "float32"), TensorSpec("a", (1, 3), "float32"))
    gives = (TensorSpec("y:0", (1, 3), "float32"),)
    (folders["export"] / "model.onnx").write_bytes(b"model")
    files.write(folders["export"], Exported({"model": "model.onnx"}, takes, gives))
    files.write(folders["export"], Elsewhere("net.onnx", "fp32", "", (1, 0), ("y_0",)))

    def device(request: RunRequest) -> RunAnswer:
        first, second = (np.load(path) for path in request.inputs)
        answers = np.concatenate([second[:, :2] + first, second[:, 2:]], 1)
        np.save(request.outputs / "outputs_0.npy", np.roll(answers, 1, 1) if wrong else answers)
        return RunAnswer(takes, gives, 1.0, 1, 1, (), "r 1", (), ())

    monkeypatch.setattr(adb, "run", device)
    spec = VerifyDeviceSpec("onnx", "", "classification", PhonePlace("adb", "all", 60.0, "phone"), 0, DeviceLimits())
    inputs = {name: folders[name] for name in ("data", "export", "verify")}
    verify_device.run(inputs, spec, folders["out"], lambda fraction, message: None)
    verdict, verified = files.read(folders["out"], Verdict), files.read(folders["out"], VerifiedThere)
    assert verdict.passed != wrong and (verified.device.accuracy["accuracy_top1"] == 1) != wrong
    assert verified.host.outputs[0].name == "y_0" and verified.limits.common["min_sqnr_db"] == 60
    if wrong:
        assert any("argmax_agreement" in reason for reason in verdict.reasons)
