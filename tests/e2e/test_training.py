"""Training is deterministic, learns, and says what is wrong; the shipped digits weights are as accurate as we say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.dataset import data_spec, open_recipe
from pipeline.errors import ModelError
from pipeline.models import build_model, load_weights
from pipeline.recipe import Data, Finetune, Model, Preprocess, Recipe, Target
from pipeline.stages.finetune import run
from pipeline.training.loop import accuracy, fit
from pipeline.training.train_model import train_from_recipe

ROOT = Path(__file__).parents[2]
DIGITS = Data(
    "digits", labels="labels.txt", preprocess=Preprocess(resize=(32, 32), scale=16.0, mean=(0.5,), std=(0.5,))
)
# Batch norm and dropout: the two layers whose training depends on more than the weights.
SMALL = """
from torch import nn
def build():
    hidden = [nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, 10))
"""


def small_recipe(folder: Path, **changes) -> Recipe:
    (folder / "model.py").write_text(SMALL)
    fields = {
        "name": "small",
        "model": Model("model.py", weights="weights.safetensors"),
        "data": Data("digits", preprocess=Preprocess()),
        "targets": (Target("a", "onnx"),),
        "folder": str(folder),
    }
    return Recipe(**{**fields, **changes})


def two_classes(count: int = 40):
    x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return [((row,), int(row[0] > 0)) for row in x]


def test_two_fits_give_the_same_bits_whatever_happened_before(tmp_path):
    recipe = small_recipe(tmp_path)
    results = []
    for threads, optimizer in ((1, "adamw"), (2, "adamw"), (1, "sgd"), (1, "sgd")):
        torch.manual_seed(threads * 100)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            module = build_model("model.py", {}, recipe.resolve)
            history = fit(module, open_recipe(recipe).train, epochs=2, optimizer=optimizer, lr=0.01, seed=3)
            assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()
        finally:
            torch.set_num_threads(before)
        assert not module.training
        results.append((history, {name: value.numpy().tobytes() for name, value in module.state_dict().items()}))
    assert results[0] == results[1] and results[2] == results[3] and results[0] != results[2]
    other = build_model("model.py", {}, recipe.resolve)
    assert fit(other, open_recipe(recipe).train, epochs=2, lr=0.01, seed=4) != results[0][0]


def test_shifts_are_deterministic_too():
    images = [((np.random.default_rng(n).normal(size=(1, 8, 8)).astype(np.float32),), n % 2) for n in range(8)]
    histories = []
    for shift in (2, 2, 0):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        histories.append(fit(module, images, epochs=2, shift=shift))
    assert histories[0] == histories[1] != histories[2]


def test_train_from_recipe_learns_and_the_finetune_stage_goes_on_from_it(tmp_path):
    recipe = small_recipe(tmp_path)
    seen: list[float] = []
    result = train_from_recipe(recipe, epochs=8, lr=0.01, emit=lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert result["weights"] == str(tmp_path / "weights.safetensors")
    losses = [entry["loss"] for entry in result["history"]]
    assert losses[-1] < losses[0] / 4 and result["eval_accuracy"] > 0.9
    again = train_from_recipe(recipe, epochs=8, lr=0.01)
    assert again == result

    spec = {
        "definition": "model.py",
        "args": {},
        "seed": 0,
        "finetune": {"type": "finetune", "epochs": 1, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.0}
        | {"batch_size": 32, "label_smoothing": 0.1},
        "data": data_spec(recipe.data, 0, "classification"),
    }
    inputs = {"data_root": tmp_path, "weights": tmp_path / "weights.safetensors"}
    bytes_of = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(inputs, spec, tmp_path / name, lambda fraction, message: None)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["model.safetensors", "train.json"]
        bytes_of.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert bytes_of[0] == bytes_of[1]
    report = json.loads((tmp_path / "one" / "train.json").read_text())
    assert report["history"][0]["train_accuracy"] > 0.9
    assert set(spec["finetune"]) - {"type"} == set(report["settings"])

    # An earlier checkpoint wins over the weights, and the definition may come as a path.
    (tmp_path / "three").mkdir()
    more = {**inputs, "checkpoint": tmp_path / "one", "definition": tmp_path / "model.py"}
    more["weights"] = tmp_path / "none.safetensors"
    run(more, spec, tmp_path / "three", lambda fraction, message: None)
    assert (tmp_path / "three" / "model.safetensors").read_bytes() != bytes_of[0][0]


def test_the_finetune_settings_of_a_recipe_fit_the_loop():
    import dataclasses
    import inspect

    fields = {field.name for field in dataclasses.fields(Finetune)} - {"type"}
    assert fields <= set(inspect.signature(fit).parameters)


@pytest.mark.parametrize("count", [2, 33, 64])
def test_a_last_batch_of_one_is_left_out(count):
    module = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    history = fit(module, two_classes(count), epochs=1, batch_size=32)
    assert np.isfinite(history[0]["loss"])


def test_a_set_too_large_to_keep_is_read_again_in_every_epoch(monkeypatch):
    samples = two_classes()
    results = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr("pipeline.training.loop.KEEP_BYTES", limit)
        torch.manual_seed(0)
        results.append(fit(nn.Linear(4, 2), samples, epochs=3))
    assert results[0] == results[1]


class TwoOutputs(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("module", "samples", "settings", "words"),
    [
        (nn.Linear(4, 2), two_classes(1), {}, "needs at least 2 samples, the train split has 1"),
        (nn.Linear(4, 1), two_classes(), {}, "the data has label 1, the model has 1 outputs"),
        (TwoOutputs(4, 2), two_classes(), {}, r"returns logits \(batch, classes\), found tuple"),
        (nn.Linear(4, 2), two_classes(), {"lr": 1e30, "optimizer": "sgd", "epochs": 30}, "training diverged in epoch"),
        (nn.ReLU(), two_classes(), {}, "no trainable parameters"),
        (nn.Linear(4, 2), [*two_classes(3), ((np.zeros(5, np.float32),), 0)], {}, "samples differ in shape"),
    ],
)
def test_what_cannot_be_trained(module, samples, settings, words):
    with pytest.raises(ModelError, match=words):
        fit(module, samples, **{"epochs": 1, **settings})


def test_train_needs_a_place_for_the_weights(tmp_path):
    with pytest.raises(ModelError, match=r"must name the \.safetensors file to write, found ''"):
        train_from_recipe(small_recipe(tmp_path, model=Model("model.py")))


def test_the_shipped_digits_weights():
    folder = ROOT / "models" / "digits_cnn"
    recipe = Recipe(
        "digits_cnn", Model("model.py", "weights.safetensors"), DIGITS, (Target("a", "onnx"),), folder=str(folder)
    )
    data = open_recipe(recipe)
    module = build_model("model.py", {}, recipe.resolve)
    load_weights(module, folder / "weights.safetensors")
    assert len(data.eval) > 500
    assert accuracy(module, data.eval) >= 0.98
