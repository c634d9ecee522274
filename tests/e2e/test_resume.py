"""Training that was killed goes on from its last whole epoch, to the same bytes as a training that was left alone."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from release_build import SOURCES
from torch import nn
from trunk_specs import finetune_spec

from pocketforge.model.load import build_model
from pocketforge.model.weights import save_weights
from pocketforge.recipe import Data, Preprocess
from pocketforge.recipe.compress import Distill, Finetune, LayerPair
from pocketforge.stages.finetune import run
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.loop import THREADS_VARIABLE, fit
from pocketforge.training.options import FitOptions
from pocketforge.training.resume import FILE

ROOT = Path(__file__).parents[2]
# Batch norm and dropout: the two layers whose training depends on more than the weights.
MODEL = """
from torch import nn
def build(hidden=24):
    body = [nn.Linear(64, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), *body, nn.Linear(hidden, 10))
"""
DATA = Data("digits", eval_samples=1000, preprocess=Preprocess())
STAGE = """
import pickle, sys
from pathlib import Path
from pocketforge.stages.finetune import run
run(*pickle.loads(Path(sys.argv[1]).read_bytes()), lambda fraction, message: print(fraction, message, flush=True))
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Threads of a busy machine only wait for each other; the number of them is no part of what is tested here."""
    monkeypatch.setenv(THREADS_VARIABLE, "1")


def test_kill_9_in_several_epochs_changes_nothing(tmp_path):
    """A real process of the stage, killed in mid-epoch twice; then the stage goes on from what it left."""
    (tmp_path / "model.py").write_text(MODEL)
    teacher = build_model("model.py", {}, lambda name: tmp_path / name)
    settings = Finetune(epochs=8, lr=1e-2)
    fit(teacher, digits(400), settings)
    save_weights(teacher, tmp_path / "teacher.safetensors")
    settings = Finetune(
        epochs=6, lr=5e-3, batch_size=64, ema_decay=0.95, early_stop_epochs=5, warmup_epochs=1, shift=1,
        clip_norm=2.0, distill=Distill(alpha=0.7, hints=(LayerPair("1", "1"),)),
    )  # fmt: skip
    spec = finetune_spec(DATA, settings)
    inputs = {"data_root": tmp_path, "teacher_weights": tmp_path / "teacher.safetensors"}
    whole = tmp_path / "whole"
    whole.mkdir()
    run({**inputs, "partial": tmp_path / "partial of another"}, spec, whole, lambda *_: None)

    killed = tmp_path / "killed"
    killed.mkdir()
    inputs = {**inputs, "partial": tmp_path / "partial", "logs": tmp_path / "logs"}
    (tmp_path / "order").write_bytes(pickle.dumps((inputs, spec, killed)))
    for epoch in (2, 5):
        with subprocess.Popen(
            [sys.executable, "-c", STAGE, str(tmp_path / "order")],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": SOURCES},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                # Its third step: in the middle of the epoch.
                if sum(f"epoch {epoch} of" in x for x in lines) == 3:
                    process.kill()
                    break
        assert process.returncode == -9
        assert not any(killed.iterdir())
    assert any("going on after epoch 1," in line for line in lines) and not any("epoch 1 of" in line for line in lines)
    told: list[str] = []
    run(inputs, spec, killed, lambda _fraction, message: told.append(message))
    assert "going on after epoch 4, where it was broken off" in told and "epoch 4 of 6" not in told
    for name in ("model.safetensors", "train.json", "checkpoint.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert len(json.loads((killed / "train.json").read_text())["history"]) == 6

    # Killed after its last epoch, before its result was there: nothing is trained again.
    told.clear()
    run(inputs, spec, killed, lambda _fraction, message: told.append(message))
    assert told == ["going on after epoch 6, where it was broken off"]
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def digits(count):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return [((bunch.images[i].astype(np.float32)[None] / 16,), int(bunch.target[i])) for i in range(count)]


class Broken(BaseException):
    """The plug is pulled."""


def student(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10)
    )


class Counting:
    """A constraint with a state: every update takes one more weight of the first layer away."""

    def __init__(self, module):
        self.weight, self.gone = module[1].weight, torch.zeros(1, dtype=torch.int64)

    def after_update(self, step, total_steps):
        self.gone = torch.minimum(self.gone + 1, torch.tensor([500]))
        with torch.no_grad():
            self.weight.view(-1)[: int(self.gone)] = 0

    def state(self):
        return {"gone": self.gone}

    def load_state(self, state):
        self.gone = state["gone"]


def trained(samples, settings, partial=None, stop_in=0, kind="plain"):
    """(weights, history, messages, epochs trained) of one training, broken off in the middle of an epoch if asked."""
    module = student()
    messages: list[str] = []

    def emit(fraction, message):
        messages.append(message)
        if messages.count(f"epoch {stop_in} of {settings.epochs}") == 2:
            raise Broken

    teacher = constraint = None
    if kind == "teacher":
        teacher = DistillationLoss(settings.distill, student(5), module, (torch.zeros(2, 1, 8, 8),))
    if kind == "constraint":
        constraint = Counting(module)
    history = None
    with contextlib.suppress(Broken):
        history = fit(
            module,
            samples,
            settings,
            FitOptions(seed=2, teacher=teacher, constraint=constraint, partial=partial, emit=emit),
        )
    return {k: v.numpy().tobytes() for k, v in module.state_dict().items()}, history, messages


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (Finetune(epochs=4, optimizer="sgd", lr=0.05, shift=1), "plain"),
        (Finetune(epochs=4, optimizer="sgd", lr=0.05, momentum=0.0, schedule="step", step_epochs=2), "plain"),
        (Finetune(epochs=4, lr=0.01, ema_decay=0.9), "constraint"),
        (Finetune(epochs=4, lr=0.01, early_stop_epochs=1, validation_fraction=0.3), "plain"),
        (Finetune(epochs=4, lr=0.01, distill=Distill(method="dkd", hints=(LayerPair("1", "1"),))), "teacher"),
        (Finetune(epochs=4, lr=0.01, precision="bf16"), "plain"),
    ],
)
def test_broken_off_in_any_epoch_every_setting_goes_on_to_the_same_bits(tmp_path, settings, kind):
    samples = digits(200)
    whole = trained(samples, settings, kind=kind)
    assert whole[1] is not None
    for epoch in (1, 2, 4):
        partial = tmp_path / str(epoch)
        if len(whole[1]) < epoch:
            continue
        broken = trained(samples, settings, partial, epoch, kind)
        assert broken[1] is None and broken[0] != whole[0]
        resumed = trained(samples, settings, partial, kind=kind)
        assert resumed[:2] == whole[:2]
        assert (f"epoch {epoch - 1} of 4" in resumed[2]) is False
        assert os.listdir(partial) == [FILE]


def test_a_state_that_is_damaged_or_another_s_is_not_used_and_said(tmp_path):
    samples, settings = digits(80), Finetune(epochs=3, lr=0.01)
    whole = trained(samples, settings)
    trained(samples, settings, tmp_path / "good", 3)
    good = (tmp_path / "good" / FILE).read_bytes()
    middle = len(good) - len(good) // 4
    trained(samples, Finetune(epochs=3, lr=0.02), tmp_path / "other", 3)
    cases = {
        "is damaged": [good[: len(good) // 2], b"", b"\xff" * 64, good.replace(b'\\"history', b'\\"histori')],
        "its checksum is wrong": [good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]],
        "is of another training": [(tmp_path / "other" / FILE).read_bytes()],
    }
    for words, contents in cases.items():
        for content in contents:
            assert content != good
            (tmp_path / "good" / FILE).write_bytes(content)
            (tmp_path / "good" / ".12345.part").write_bytes(b"half")  # of a process killed while it wrote
            resumed = trained(samples, settings, tmp_path / "good")
            assert words in resumed[2][0] and resumed[2][0].startswith("training begins anew")
            assert resumed[:2] == whole[:2]
            assert os.listdir(tmp_path / "good") == [FILE]


def test_the_state_holds_no_pickle(tmp_path):
    from safetensors import safe_open

    trained(digits(80), Finetune(epochs=2, lr=0.01, ema_decay=0.9), tmp_path, 2)
    with safe_open(tmp_path / FILE, "pt") as file:
        names = set(file.keys())
        numbers = json.loads(file.metadata()["numbers"])
    assert {"module/1.weight", "average/1.weight", "optimizer.0/exp_avg", "order/state", "random/0"} <= names
    assert [entry["epoch"] for entry in numbers["history"]] == [1]
