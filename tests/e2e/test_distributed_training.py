"""Several processes train one model: as one process would, resumable, and with its errors told."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from trunk_specs import finetune_spec

from pocketforge.errors import ModelError
from pocketforge.recipe import Data, Preprocess
from pocketforge.recipe.compress import Finetune
from pocketforge.stages.finetune import run

DATA = Data("digits", eval_samples=1000, preprocess=Preprocess())
PLAIN = """
from torch import nn
def build(hidden=24, classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, classes))
"""


def spec(settings: Finetune, **args):
    return finetune_spec(DATA, settings, args=args)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.py").write_text(PLAIN)
    return tmp_path


def test_two_processes_train_as_one_does(folder):
    reports, weights, told = [], [], []
    for processes in (1, 2):
        out = folder / f"out{processes}"
        out.mkdir()
        settings = Finetune(epochs=2, lr=5e-3, batch_size=50, ema_decay=0.9, clip_norm=5.0, processes=processes)
        seen: list[tuple[float, str]] = []
        partial = folder / f"partial{processes}"

        def hear(fraction: float, message: str, seen: list[tuple[float, str]] = seen) -> None:
            seen.append((fraction, message))

        run({"data_root": folder, "partial": partial}, spec(settings), out, hear)
        assert (partial / "resume.safetensors").is_file()
        reports.append(json.loads((out / "train.json").read_text()))
        weights.append(load_file(out / "model.safetensors"))
        told.append(seen)
    assert told[0] == told[1] and told[1][-1] == (1.0, "epoch 2 of 2")
    one, two = (report["history"] for report in reports)
    # Gradients are the mean over the whole batch: the same training, but for the order of sums.
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["lr"] == b["lr"]
        assert a["train_accuracy"] == pytest.approx(b["train_accuracy"], abs=0.005)
    assert two[1]["loss"] < two[0]["loss"] * 0.9
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=1e-4)
        assert (weights[0][name] - weights[1][name]).abs().max() < 1e-2 * weights[0][name].abs().max()


def test_an_error_in_the_processes_is_the_user_s(folder):
    (folder / "out").mkdir()
    with pytest.raises(ModelError, match=r"the data has label 9, the model has 4 outputs") as error:
        run({"data_root": folder}, spec(Finetune(processes=2), classes=4), folder / "out", lambda *_: None)
    assert "model.args must build the model" in error.value.hint
    assert list((folder / "out").iterdir()) == []
