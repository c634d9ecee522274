"""Training is deterministic, learns, and says what is wrong; the shipped digits weights are as accurate as we say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from trunk_specs import finetune_spec

from pocketforge.commands.train import train_from_recipe
from pocketforge.data.dataset import open_recipe
from pocketforge.errors import ModelError
from pocketforge.model.load import build_model
from pocketforge.model.surgery import Checkpoint, load_checkpoint, save_checkpoint
from pocketforge.model.weights import load_weights
from pocketforge.outcomes.files import to_json
from pocketforge.recipe import Data, Model, Preprocess, Recipe, Target
from pocketforge.recipe.compress import Finetune, PruneUnstructured
from pocketforge.stages.finetune import run
from pocketforge.training.batches import batches_of
from pocketforge.training.judge import top1
from pocketforge.training.loop import THREADS_VARIABLE, fit
from pocketforge.training.losses import user_loss
from pocketforge.training.options import FitOptions
from pocketforge.training.schedule import learning_rate
from pocketforge.training.trainer import held_out_part

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


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """These models are so small that threads only wait for each other."""
    monkeypatch.setenv(THREADS_VARIABLE, "1")


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


def trained(settings: Finetune, samples=None, **more):
    """(module, history) of one small model."""
    torch.manual_seed(0)
    module = more.pop("module", None) or nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)
    )
    return module, fit(module, samples or two_classes(), settings, FitOptions(**more))


def content(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def two_classes(count: int = 40):
    x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return [((row,), int(row[0] > 0)) for row in x]


def test_two_fits_give_the_same_bits_whatever_happened_before(tmp_path):
    recipe = small_recipe(tmp_path)
    results = []
    fits: list[tuple[int, Literal["adamw", "sgd"]]] = [(1, "adamw"), (2, "adamw"), (1, "sgd"), (1, "sgd")]
    for threads, optimizer in fits:
        torch.manual_seed(threads * 100)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            module = build_model("model.py", {}, recipe.resolve)
            history = fit(
                module, open_recipe(recipe).train, Finetune(epochs=2, optimizer=optimizer, lr=0.01), FitOptions(seed=3)
            )
            assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()
        finally:
            torch.set_num_threads(before)
        assert not module.training
        results.append((history, {name: value.numpy().tobytes() for name, value in module.state_dict().items()}))
    assert results[0] == results[1] and results[2] == results[3] and results[0] != results[2]
    other = build_model("model.py", {}, recipe.resolve)
    assert fit(other, open_recipe(recipe).train, Finetune(epochs=2, lr=0.01), FitOptions(seed=4)) != results[0][0]


def test_shifts_are_deterministic_too():
    images = [((np.random.default_rng(n).normal(size=(1, 8, 8)).astype(np.float32),), n % 2) for n in range(8)]
    histories = []
    for shift in (2, 2, 0):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        histories.append(fit(module, images, Finetune(epochs=2, shift=shift)))
    assert histories[0] == histories[1] != histories[2]


def test_train_from_recipe_learns_and_the_finetune_stage_goes_on_from_it(tmp_path):
    recipe = small_recipe(tmp_path)
    seen: list[float] = []
    result = train_from_recipe(
        recipe, Finetune(epochs=8, lr=0.01), emit=lambda fraction, message: seen.append(fraction)
    )
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert result.weights == str(tmp_path / "weights.safetensors")
    losses = [epoch.loss for epoch in result.history]
    assert losses[-1] < losses[0] / 4 and result.eval_accuracy > 0.9
    again = train_from_recipe(recipe, Finetune(epochs=8, lr=0.01))
    assert again == result

    settings = Finetune(epochs=1, lr=1e-3, weight_decay=0.0, batch_size=32, label_smoothing=0.1)
    spec = finetune_spec(recipe.data, settings)
    inputs = {"data_root": tmp_path, "weights": tmp_path / "weights.safetensors"}
    bytes_of = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(inputs, spec, tmp_path / name, lambda fraction, message: None)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "checkpoint.json",
            "model.safetensors",
            "train.json",
        ]
        bytes_of.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert bytes_of[0] == bytes_of[1]
    report = json.loads((tmp_path / "one" / "train.json").read_text())
    assert report["history"][0]["train_accuracy"] > 0.9
    assert report["settings"] == to_json(spec.settings)
    assert report["teacher"] is None and report["stopped_early"] is False
    same = load_checkpoint(tmp_path / "one", resolve=recipe.resolve)
    assert same.definition == "model.py" and not same.module.training
    assert top1(same.module, batches_of(open_recipe(recipe).eval, 64)) > 0.9

    # An earlier checkpoint wins over the weights, and the definition may come as a path.
    (tmp_path / "three").mkdir()
    more = {**inputs, "checkpoint": tmp_path / "one", "definition": tmp_path / "model.py"}
    more["weights"] = tmp_path / "none.safetensors"
    run(more, spec, tmp_path / "three", lambda fraction, message: None)
    assert (tmp_path / "three" / "model.safetensors").read_bytes() != bytes_of[0][1]


@pytest.mark.parametrize("count", [2, 33, 64])
def test_a_last_batch_of_one_is_left_out(count):
    module = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    history = fit(module, two_classes(count), Finetune(epochs=1, batch_size=32))
    assert np.isfinite(history[0].loss)


def test_a_set_too_large_to_keep_is_read_again_in_every_epoch(monkeypatch):
    samples = two_classes()
    results = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr("pocketforge.training.batches.KEEP_BYTES", limit)
        torch.manual_seed(0)
        results.append(fit(nn.Linear(4, 2), samples, Finetune(epochs=3)))
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
        fit(module, samples, made(**settings))


def made(*, lr=5e-4, epochs=1, optimizer="adamw"):
    """Settings that may have a rate that no recipe may ask for: one that may would take long to diverge."""
    settings = Finetune(epochs=epochs, optimizer=optimizer)
    object.__setattr__(settings, "lr", lr)
    return settings


def test_the_learning_rate_of_every_step():
    rates = [learning_rate(Finetune(epochs=4, lr=1.0, warmup_epochs=1), step, 4) for step in range(16)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[10] == pytest.approx(0.5) and 0 < rates[-1] < 0.02
    # Without warm-up, torch's own cosine.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for step in range(12):
        assert learning_rate(Finetune(epochs=3, lr=0.3), step, 4) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    steps = Finetune(epochs=6, lr=1.0, schedule="step", step_epochs=2, gamma=0.5, warmup_epochs=0.5)
    assert [learning_rate(steps, s, 2) for s in range(12)] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    _, history = trained(Finetune(epochs=3, lr=0.1, schedule="step"))
    assert [entry.lr for entry in history] == pytest.approx([0.1, 0.01, 0.001])


def test_every_setting_changes_the_training():
    plain = Finetune(epochs=3, lr=0.05, batch_size=8, optimizer="sgd")
    seen = [content(trained(plain)[0])]
    for change in (
        {"momentum": 0.5}, {"weight_decay": 0.1}, {"schedule": "step"}, {"warmup_epochs": 1.5}, {"ema_decay": 0.5},
        {"clip_norm": 0.1}, {"label_smoothing": 0.2}, {"early_stop_epochs": 3}, {"precision": "bf16"},
    ):  # fmt: skip
        found = content(trained(replace(plain, **change))[0])
        assert found not in seen, change
        seen.append(found)


def test_clipping_bounds_a_step():
    module = nn.Linear(4, 2)
    before = module.weight.detach().clone()
    settings = Finetune(epochs=1, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.01)
    fit(module, two_classes(), settings)
    moved = torch.cat([(module.weight - before).reshape(-1)])
    assert 0.005 < moved.norm() <= 0.01


def test_the_average_is_of_weights_and_buffers(monkeypatch):
    """Against the average taken by hand from the weights after every update."""
    after: list[dict[str, torch.Tensor]] = []

    class Watch:
        def __init__(self, module):
            self.module = module
            self.start = {name: value.clone() for name, value in module.state_dict().items()}

        def after_update(self, step, total):
            after.append({name: value.clone() for name, value in self.module.state_dict().items()})

        def state(self) -> dict[str, torch.Tensor]:
            return {}

        def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
            pytest.fail("nothing is resumed here")

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    watch = Watch(module)
    fit(module, two_classes(), Finetune(epochs=4, lr=0.05, batch_size=10, ema_decay=0.5), FitOptions(constraint=watch))
    assert len(after) == 17 and after.pop() is not None  # 16 updates, and once more for the average itself
    wanted = watch.start
    for n, values in enumerate(after, 1):
        decay = min(0.5, (1 + n) / (10 + n))
        wanted = {
            name: decay * wanted[name] + (1 - decay) * value if value.is_floating_point() else value
            for name, value in values.items()
        }
    for name, value in module.state_dict().items():
        assert torch.allclose(value, wanted[name], atol=1e-6), name
    assert not torch.equal(module[0].weight, after[-1]["0.weight"])


def test_masks_hold_exactly_through_momentum_weight_decay_and_averages():
    from pocketforge.pruning.unstructured import MaskConstraint

    for settings in (
        Finetune(epochs=3, lr=0.05, ema_decay=0.9, weight_decay=0.1),
        Finetune(epochs=3, lr=0.05, optimizer="sgd", early_stop_epochs=2, ema_decay=0.5),
    ):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        mask = (torch.rand(16, 4) > 0.5).to(torch.uint8)
        start = module[0].weight.detach().clone()
        fit(module, two_classes(), settings, FitOptions(constraint=MaskConstraint(module, {"0.weight": mask})))
        assert (module[0].weight[mask == 0] == 0).all() and int((mask == 0).sum()) > 20
        assert (module[0].weight[mask == 1] != start[mask == 1]).all()


def test_early_stop_holds_samples_of_train_out_and_keeps_the_best_weights():
    # Labels that are noise: the train split is learnt by heart, and the held-out loss rises before long. Eight epochs
    # on it is far from its best however a processor sums (by .12 or more with SSE, AVX2, AVX-512; three on by .006).
    rng = np.random.default_rng(5)
    samples = [((rng.normal(size=4).astype(np.float32),), int(rng.integers(2))) for _ in range(60)]
    read: list[int] = []

    class Watched(list):
        def __getitem__(self, position):
            read.append(position)
            return super().__getitem__(position)

    settings = Finetune(epochs=60, lr=0.05, batch_size=16, early_stop_epochs=8, validation_fraction=0.25)
    train, held_out = held_out_part(60, settings, 1)
    assert len(held_out) == 15 and sorted(train + held_out) == list(range(60))
    assert held_out_part(60, settings, 1) == (train, held_out) != held_out_part(60, settings, 2)
    assert held_out_part(60, Finetune(), 1) == (list(range(60)), [])
    module, history = trained(settings, Watched(samples), seed=1)
    losses = [entry.validation_loss for entry in history]
    best = losses.index(min(losses))
    assert len(history) == best + 9 < 60
    assert set(read) == set(range(60))
    # The weights kept are those of the best epoch, not of the last.
    with torch.no_grad():
        logits = module(torch.from_numpy(np.stack([samples[i][0][0] for i in held_out])))
        loss = nn.functional.cross_entropy(logits, torch.tensor([samples[i][1] for i in held_out]))
    assert float(loss) == pytest.approx(losses[best], rel=1e-5) and losses[-1] > losses[best] + 0.01
    assert history[best].validation_accuracy == pytest.approx(
        top1(module, batches_of([samples[i] for i in held_out], 64)), abs=1e-6
    )
    # What was held out was not trained on: other labels there change nothing but the verdict.
    few = replace(settings, epochs=2)
    flipped = [(x, 1 - label if i in held_out else label) for i, (x, label) in enumerate(samples)]
    pairs = zip(trained(few, samples, seed=1)[1], trained(few, flipped, seed=1)[1], strict=True)
    for one, two in pairs:
        assert one.loss == two.loss and one.validation_loss != two.validation_loss


def test_regression_compares_each_value_with_its_own_target():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    # Targets without a dimension beside answers (batch, 1), which plain broadcasting would compare all with all.
    samples = [((row,), np.float32(row @ [1.0, -2.0, 0.5, 3.0])) for row in x]
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    history = fit(
        module, samples, Finetune(epochs=50, optimizer="sgd", lr=0.05, weight_decay=0.0), FitOptions(task="regression")
    )
    assert history[-1].loss < 1e-3 and history[-1].train_accuracy is None
    assert torch.allclose(module.weight, torch.tensor([[1.0, -2.0, 0.5, 3.0]]), atol=0.02)
    with pytest.raises(ModelError, match=r"as many values as the targets, \[64\], found shape \[64, 3\]"):
        fit(nn.Linear(4, 3), samples, Finetune(epochs=1), FitOptions(task="regression"))


LOSSES = """
import torch
from scaling import SCALE
def scaled(outputs, targets): return SCALE * torch.nn.functional.cross_entropy(outputs, targets)
def each(outputs, targets): return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
def number(outputs, targets): return 0.5
def cut(outputs, targets): return (outputs.argmax(1) != targets).float().mean()
def broken(outputs, targets): return outputs["logits"]
"""


def test_a_loss_of_the_user_s_own(tmp_path):
    (tmp_path / "losses.py").write_text(LOSSES)
    (tmp_path / "scaling.py").write_text("SCALE = 3.0\n")
    settings = Finetune(epochs=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=0.03, loss="losses.py:scaled")

    def resolve(name: str) -> Path:
        return tmp_path / name

    with user_loss(settings.loss, resolve) as loss:
        module, history = trained(settings, loss=loss)
    # Three times the loss is three times the step.
    plain, same = trained(replace(settings, lr=0.09, loss=""))
    assert history[0].loss == pytest.approx(3 * same[0].loss)
    assert torch.allclose(module[0].weight, plain[0].weight, atol=1e-6)
    for name, words in {
        "each": r"the loss must be a scalar tensor, found shape \[40\]: return loss.mean\(\)",
        "number": "the loss must be a scalar tensor, found float",
        "cut": "the loss does not depend on the model's weights",
        "broken": r"broken\(\) in .*losses.py raised IndexError: .*\n  at .*losses.py:8 in broken",
    }.items():
        with user_loss(f"losses.py:{name}", resolve) as loss, pytest.raises(ModelError, match=words):
            trained(settings, loss=loss)
    for spec, words in {"none.py:f": "there is no file", "losses.py:f": r"has no function f\(\)"}.items():
        with pytest.raises(ModelError, match=words), user_loss(spec, resolve):
            pass
    assert "scaling" not in sys.modules


def test_precision_goes_through_accelerate_and_leaves_nothing_behind():
    from accelerate.state import AcceleratorState, PartialState

    settings = Finetune(epochs=2, lr=0.02)
    plain = trained(settings)
    lower = [trained(replace(settings, precision="bf16")) for _ in range(2)]
    assert content(lower[0][0]) == content(lower[1][0]) != content(plain[0])
    assert lower[0][1][-1].loss == pytest.approx(plain[1][-1].loss, rel=0.05)
    assert lower[0][0][0].weight.dtype == torch.float32
    assert AcceleratorState._shared_state == {} == PartialState._shared_state
    assert content(trained(settings)[0]) == content(plain[0])
    with pytest.raises(ModelError, match="processes = 2, but 1 train together here"):
        trained(replace(settings, processes=2))


def test_tensorboard_shows_what_the_history_says(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = Finetune(epochs=3, lr=0.05, early_stop_epochs=3)
    _, history = trained(settings, logs=tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = {
        "loss/train": "loss", "loss/validation": "validation_loss", "accuracy/train": "train_accuracy",
        "accuracy/validation": "validation_accuracy", "lr": "lr",
    }  # fmt: skip
    assert set(events.Tags()["scalars"]) == set(tags)
    for tag, name in tags.items():
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2, 3]
        assert [scalar.value for scalar in scalars] == pytest.approx(
            [getattr(entry, name) for entry in history], rel=1e-6
        )


def test_without_tensorboard_there_are_no_logs_and_one_message(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    told: list[str] = []
    _, history = trained(Finetune(epochs=2), logs=tmp_path / "logs", emit=lambda _, message: told.append(message))
    assert len(history) == 2 and [m for m in told if "TensorBoard" in m] == [
        "no TensorBoard logs: the package tensorboard is not installed"
    ]


def test_the_stage_holds_masks_and_grows_them(tmp_path):
    recipe = small_recipe(tmp_path)
    module = build_model("model.py", {}, recipe.resolve)
    mask = (torch.rand(32, 64, generator=torch.Generator().manual_seed(0)) > 0.3).to(torch.uint8)
    module[1].weight.data.mul_(mask)
    save_checkpoint(Checkpoint(module, "model.py", {}, 0, [], {"1.weight": mask}), tmp_path / "pruned")
    inputs = {"data_root": tmp_path, "checkpoint": tmp_path / "pruned"}
    gradual = PruneUnstructured(amount=0.6, schedule="cubic")
    shares = []
    for name, growing in (("held", None), ("grown", gradual)):
        out = tmp_path / name
        out.mkdir()
        settings = Finetune(epochs=2, lr=1e-2, batch_size=128, ema_decay=0.5)
        run(inputs, finetune_spec(recipe.data, settings, gradual=growing), out, lambda *_: None)
        found = load_checkpoint(out, resolve=recipe.resolve)
        for parameter, held in found.masks.items():
            weight = found.module.get_parameter(parameter)
            assert (weight[held == 0] == 0).all() and (weight[held == 1] != 0).any()
        assert (found.masks["1.weight"] <= mask).all()
        weights = [p for p in found.module.parameters() if p.ndim == 2]
        shares.append(sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights))
    assert shares[0] == pytest.approx(float((mask == 0).sum()) / (mask.numel() + 320), abs=1e-3)
    assert shares[1] == pytest.approx(0.6, abs=1e-3)
    spec = finetune_spec(recipe.data, Finetune(epochs=2, early_stop_epochs=1), gradual=gradual)
    with pytest.raises(ModelError, match="early_stop_epochs cannot go with schedule cubic"):
        run(inputs, spec, tmp_path / "grown", lambda *_: None)


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
    assert top1(module, batches_of(data.eval, 64)) >= 0.98
