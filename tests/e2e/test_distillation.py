"""A student learns from its teacher, by the published formulas; what cannot be a teacher is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from trunk_specs import finetune_spec

from pocketforge.errors import ModelError
from pocketforge.model.weights import save_weights
from pocketforge.recipe import Data, Preprocess
from pocketforge.recipe.compress import Distill, Finetune, LayerPair, Teacher
from pocketforge.stages.finetune import run
from pocketforge.training.batches import batches_of
from pocketforge.training.distillation import (
    DistillationLoss,
    attention_map,
    dkd_divergence,
    kd_divergence,
)
from pocketforge.training.judge import top1
from pocketforge.training.loop import THREADS_VARIABLE, fit
from pocketforge.training.options import FitOptions
from pocketforge.training.teacher_checks import check_teacher


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These models are so small that threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(THREADS_VARIABLE, "1")
        yield


def mlp(hidden: int, classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def cnn(width: int, stride: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = [nn.Conv2d(1, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1)]
    return nn.Sequential(*body, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    samples = [((images[i],), int(bunch.target[i])) for i in order]
    return samples[:1200], samples[1200:]


@pytest.fixture(scope="module")
def teacher(digits, one_thread):
    module = mlp(256)
    fit(module, digits[0], Finetune(epochs=20, lr=5e-3))
    assert top1(module, batches_of(digits[1], 64)) > 0.95
    return module


def example(samples, count=4):
    return (torch.from_numpy(np.stack([sample[0][0] for sample in samples[:count]])),)


def content(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_a_student_with_a_teacher_beats_the_same_student_without(digits, teacher):
    """Measured: .857 alone, .909 with KD (gains .032 to .070); 100 labelled digits, 60 epochs, mean of 5 seeds."""
    train, test = digits
    gains = []
    for seed in range(5):
        few = [train[i] for i in np.random.default_rng(seed + 1).permutation(len(train))[:100]]
        found = []
        for distill in (None, Distill()):
            student = mlp(16, seed=seed)
            loss = DistillationLoss(distill, teacher, student, example(few), seed=seed) if distill else None
            settings = Finetune(epochs=60, lr=2e-2, batch_size=50, distill=distill)
            fit(student, few, settings, FitOptions(seed=seed, teacher=loss))
            found.append(top1(student, batches_of(test, 64)))
        gains.append(found[1] - found[0])
    assert np.mean(gains) > 0.02 and min(gains) > -0.01


def test_kd_is_hinton_s_formula_and_its_gradient_is_the_teacher_s():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.randn(6, 5).double()
    p, q = torch.softmax(teacher / 3, 1), torch.softmax(student / 3, 1)
    wanted = 9 * (p * (p / q).log()).sum(1).mean()
    found = kd_divergence(student, teacher, 3.0)
    assert torch.allclose(found, wanted)
    (gradient,) = torch.autograd.grad(found, student)
    # d/dz of T² KL is T (q - p), over the batch.
    assert torch.allclose(gradient, 3 * (q - p) / 6) and gradient.abs().max() > 0.01
    assert kd_divergence(teacher, teacher, 3.0) == 0


def test_dkd_is_the_authors_code():
    torch.manual_seed(1)
    student, teacher = torch.randn(7, 6).double() * 3, torch.randn(7, 6).double() * 3
    labels = torch.tensor([0, 5, 2, 2, 1, 4, 3])
    t, alpha, beta = 4.0, 1.0, 8.0
    gt = torch.zeros_like(student).scatter_(1, labels[:, None], 1).bool()

    def two(x):
        p = functional.softmax(x / t, 1)
        return torch.cat([(p * gt).sum(1, keepdim=True), (p * ~gt).sum(1, keepdim=True)], 1)

    tckd = functional.kl_div(two(student).log(), two(teacher), reduction="sum") * t**2 / 7
    part = [x / t - 1000.0 * gt for x in (student, teacher)]
    nckd = functional.kl_div(part[0].log_softmax(1), part[1].softmax(1), reduction="sum") * t**2 / 7
    assert torch.allclose(dkd_divergence(student, teacher, labels, t, alpha, beta), alpha * tckd + beta * nckd)
    # The sum of both parts with the weights that plain KD has is plain KD (the paper's equation 7).
    weights = two(teacher)[:, 1]
    each = functional.kl_div(part[0].log_softmax(1), part[1].softmax(1), reduction="none").sum(1) * t**2
    assert torch.allclose(tckd + (weights * each).mean(), kd_divergence(student, teacher, t))
    # Logits far apart: finite, where the logarithm of a probability of 0 would not be.
    far = torch.tensor([[4000.0, 0, 0, 0, 0, 0]], requires_grad=True)
    loss = dkd_divergence(far, torch.randn(1, 6), torch.tensor([1]), t, 1.0, 8.0)
    loss.backward()
    assert loss.isfinite() and far.grad.isfinite().all()


@pytest.mark.parametrize("method", ["kd", "dkd"])
def test_with_garbage_labels_and_alpha_1_a_student_still_becomes_its_teacher(digits, teacher, method):
    train, test = digits
    rng = np.random.default_rng(3)
    # dkd looks at labels to split the classes in two: whichever class it is given.
    garbage = [(inputs, int(rng.integers(10))) for inputs, _ in train[:400]]
    student = mlp(48)
    before, at_first = content(teacher), logit_error(student, teacher, test)
    distill = Distill(method=method, alpha=1.0, dkd_beta=2.0)
    loss = DistillationLoss(distill, teacher, student, example(train))
    settings = Finetune(epochs=25, lr=1e-2, distill=distill)
    history = fit(student, garbage, settings, FitOptions(teacher=loss))
    assert top1(student, batches_of(test, 64)) > 0.85
    first, last = history[0].figures(), history[-1].figures()
    assert last["train_accuracy"] < 0.25
    assert last["loss"] == last["teacher_loss"] < first["teacher_loss"] / 5
    assert last["label_loss"] > 2
    assert logit_error(student, teacher, test) < at_first / 3
    # The teacher is what it was, to the byte, and nothing is left hooked on.
    assert content(teacher) == before and all(p.grad is None for p in teacher.parameters())
    # The same garbage without a teacher teaches nothing.
    alone = mlp(48)
    fit(alone, garbage, Finetune(epochs=25, lr=1e-2))
    assert top1(alone, batches_of(test, 64)) < 0.4


def logit_error(student, teacher, samples):
    """Mean square distance of both models' logits, each centred (softmax does not see a shift)."""
    with torch.no_grad():
        a, b = (m(*example(samples, len(samples))) for m in (student, teacher))
    return float(((a - a.mean(1, keepdim=True)) - (b - b.mean(1, keepdim=True))).square().mean())


def test_the_teacher_s_part_moves_the_student(digits, teacher):
    """One batch, labels' loss and teacher's apart: the gradient is their weighted sum, and the teacher's is not 0."""
    images, labels = example(digits[0], 16), torch.tensor([s[1] for s in digits[0][:16]])
    student = mlp(16)
    loss = DistillationLoss(Distill(alpha=0.3, temperature=2.0), teacher, student, images)
    outputs = student(*images)
    label_loss = functional.cross_entropy(outputs, labels)
    total, parts = loss(images, outputs, labels, label_loss)
    with torch.no_grad():
        answer = teacher(*images)
    weights = list(student.parameters())
    whole = torch.autograd.grad(total, weights, retain_graph=True)
    of_labels = torch.autograd.grad(label_loss, weights, retain_graph=True)
    of_teacher = torch.autograd.grad(kd_divergence(outputs, answer, 2.0), weights)
    for both, a, b in zip(whole, of_labels, of_teacher, strict=True):
        assert torch.allclose(both, 0.7 * a + 0.3 * b, atol=1e-6) and b.abs().max() > 1e-3
    assert set(parts) == {"label_loss", "teacher_loss"} and not total.detach().equal(label_loss)
    for alpha in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match="it would be training on labels alone"):
            Distill(alpha=alpha)


def test_hints_and_attention_bring_layers_together(digits):
    train = digits[0][:256]
    big, small = cnn(12, 1, seed=5), cnn(4, 2, seed=6)
    fit(big, train, Finetune(epochs=2, lr=1e-2))
    before = content(big)
    # 12 channels of 8×8 against 4 of 4×4: a 1×1 convolution, and the larger is averaged down.
    distill = Distill(
        hints=(LayerPair("3", "3"),), hint_weight=2.0, attention=(LayerPair("2", "2"),), attention_weight=500.0
    )
    loss = DistillationLoss(distill, big, small, example(train))
    assert [tuple(p.shape) for p in loss.regressors.parameters()] == [(12, 4, 1, 1), (12,)]
    regressor = loss.regressors[0].weight.detach().clone()
    names = set(small.state_dict())
    history = fit(small, train, Finetune(epochs=6, lr=1e-2, distill=distill), FitOptions(teacher=loss))
    first, last = history[0].figures(), history[-1].figures()
    assert all(last[name] < first[name] * 0.7 for name in ("hint_loss", "attention_loss"))
    expected = 0.9 * last["teacher_loss"] + 0.1 * last["label_loss"] + 2 * last["hint_loss"]
    assert last["loss"] == pytest.approx(expected + 500 * last["attention_loss"], rel=1e-5)
    # The map is trained along, and is no part of the student.
    assert not torch.equal(loss.regressors[0].weight, regressor)
    assert set(small.state_dict()) == names and not small[3]._forward_hooks and not big[3]._forward_hooks
    assert content(big) == before


def test_an_attention_map_is_normalized_energy():
    features = torch.zeros(1, 2, 2, 2)
    features[0, :, 0, 0], features[0, :, 1, 1] = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])
    assert torch.allclose(attention_map(features), torch.tensor([[2.0, 0, 0, 4.0]]) / 20**0.5)
    assert torch.allclose(attention_map(features * 7), attention_map(features))
    tokens = features.flatten(2).transpose(1, 2)
    assert torch.allclose(attention_map(tokens), attention_map(features))


@pytest.mark.parametrize(
    ("distill", "big", "words"),
    [
        (Distill(), mlp(8, classes=7), "the teacher answers 7 classes, the student 10"),
        (
            Distill(hints=(LayerPair("hidden", "1"),)),
            mlp(8),
            "distill.hints: the student has no layer 'hidden'; known: ",
        ),
        (Distill(attention=(LayerPair("1", "11"),)), mlp(8), "the teacher has no layer '11'; did you mean '1'"),
        (Distill(attention=(LayerPair("1", "1"),)), mlp(8), r"answers \[4, 16\], which has no places to look at"),
        (Distill(hints=(LayerPair("1", "0"),)), cnn(4, 1), "layers '1' .* and '0' .* cannot be compared"),
        (Distill(), nn.Conv2d(1, 10, 3), r"a teacher that returns logits \(batch, classes\), found shape"),
    ],
)
def test_what_does_not_fit_together(digits, distill, big, words):
    with pytest.raises(ModelError, match=words):
        DistillationLoss(distill, big, mlp(16), example(digits[0]))


def test_chance_is_no_teacher():
    for right, classes in ((0.14, 10), (0.18, 10), (0.64, 2), (0.01, 1000)):
        with pytest.raises(ModelError, match="hardly more than chance"):
            check_teacher(right, classes, 100)
    for right, classes in ((0.2, 10), (0.66, 2), (0.02, 1000)):
        check_teacher(right, classes, 100)
    # With many samples luck is small, with few it is large.
    check_teacher(0.16, 10, 10_000)
    with pytest.raises(ModelError, match="hardly more than chance"):
        check_teacher(0.3, 10, 10)


MODEL = """
from torch import nn
def build(hidden=24, classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, classes))
"""
DATA = Data("digits", eval_samples=1000, preprocess=Preprocess())


def test_the_stage_distills_from_another_model_and_says_how_good_it_was(tmp_path, teacher):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "big.py").write_text(MODEL)
    both = {"model": mlp(256, seed=9).state_dict(), "ema": teacher.state_dict()}
    torch.save(both, tmp_path / "big.pt")
    distill = Distill(Teacher("big.py", "big.pt", {"hidden": 256}, "ema"))
    spec = finetune_spec(DATA, Finetune(epochs=3, lr=1e-2, distill=distill))
    out = tmp_path / "out"
    out.mkdir()
    inputs = {"data_root": tmp_path, "teacher_weights": tmp_path / "big.pt"}
    run(inputs, spec, out, lambda *_: None)
    report = json.loads((out / "train.json").read_text())
    # The teacher learned most of the calibration samples too.
    assert report["teacher"]["definition"] == "big.py" and report["teacher"]["accuracy_top1"] > 0.95
    assert report["history"][-1]["teacher_loss"] < report["history"][0]["teacher_loss"] * 0.7
    assert report["settings"]["distill"]["teacher"]["args"] == {"hidden": 256}
    assert report["teacher"]["weights"] == {"file": "big.pt", "key": "ema", "done": ["taken from 'ema'"]}

    # Weights as they are drawn are no teacher; neither is a task without classes.
    torch.save({"ema": both["model"]}, tmp_path / "big.pt")
    with pytest.raises(ModelError, match=r"of 100 calibration samples right, hardly more than chance \(10.0%\)"):
        run(inputs, spec, out, lambda *_: None)
    regression = finetune_spec(DATA, spec.settings, task="regression")
    with pytest.raises(ModelError, match="it is for task classification, found regression"):
        run(inputs, regression, out, lambda *_: None)


def test_without_a_teacher_s_name_it_is_the_model_as_it_was(tmp_path, teacher):
    (tmp_path / "model.py").write_text(MODEL)
    save_weights(teacher, tmp_path / "weights.safetensors")
    spec = finetune_spec(DATA, Finetune(epochs=1, distill=Distill()), args={"hidden": 256})
    inputs = {"data_root": tmp_path, "teacher_weights": tmp_path / "weights.safetensors"}
    losses = []
    for start in ({}, {"weights": tmp_path / "weights.safetensors"}):
        (tmp_path / "out").mkdir(exist_ok=True)
        run({**inputs, **start}, spec, tmp_path / "out", lambda *_: None)
        losses.append(json.loads((tmp_path / "out" / "train.json").read_text())["history"][0]["teacher_loss"])
    # Begun with the teacher's own weights there is almost nothing to learn from it.
    assert losses[1] < losses[0] / 20
    assert json.loads((tmp_path / "out" / "train.json").read_text())["teacher"]["definition"] == "model.py"
