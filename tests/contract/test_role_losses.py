"""The losses of outputs with roles: torch's own where it has one, over what is held; what does not fit is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketforge.accuracy.post import About
from pocketforge.errors import ModelError
from pocketforge.recipe.compress import Distill, Finetune
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.output_loss import OutputLoss
from pocketforge.training.batches import Batches, NamedTargets, named_targets
from pocketforge.training.distillation import DistillationLoss, dkd_divergence
from pocketforge.training.judge import standard_for, top1
from pocketforge.training.loop import fit
from pocketforge.training.options import FitOptions
from pocketforge.training.role_losses import RoleLosses, role_losses
from pocketforge.training.teacher_checks import check_teacher_of_roles, judging_batches, losses_with_others

ABOUT = About(("a", "b"), (8, 8))


def loss_of(output: Output, values: Tensor, targets: Mapping[str, Any], *, smoothing: float = 0.0) -> Tensor:
    named = replace(output, name="y")
    roles = RoleLosses(("y",), (named,), ABOUT, smoothing=smoothing)
    answer = values.clone().requires_grad_()
    return roles.loss(roles.named(answer), named_targets(targets), smooth=True).parts["y"].detach()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_scores_of_classes_are_torch_s_cross_entropy_over_what_is_held() -> None:
    labels, scores = [2, 0, 1], random(3, 4)
    wanted = torch.tensor(labels)
    of = {"label": [np.int64(each) for each in labels]}
    torch.testing.assert_close(loss_of(Output("logits"), scores, of), functional.cross_entropy(scores, wanted))
    smooth = functional.cross_entropy(scores, wanted, label_smoothing=0.2)
    torch.testing.assert_close(loss_of(Output("logits"), scores, of, smoothing=0.2), smooth)
    shares = Output("logits", post=Post("none"))
    torch.testing.assert_close(loss_of(shares, scores.softmax(1), of), functional.cross_entropy(scores, wanted))
    # gamma 0 is cross entropy; 2 counts what is right already for less.
    plain, focal = (Output("logits", loss=OutputLoss("focal", gamma=gamma)) for gamma in (0.0, 2.0))
    torch.testing.assert_close(loss_of(plain, scores, of), functional.cross_entropy(scores, wanted))
    p = scores.softmax(1)[range(3), labels]
    torch.testing.assert_close(loss_of(focal, scores, of), (-((1 - p) ** 2) * p.log()).mean())
    masks = [np.array([[0, 255], [1, 2]]), np.array([[2, 2], [255, 0]])]
    maps, wanted = random(2, 3, 2, 2), torch.from_numpy(np.stack(masks))
    pixels = functional.cross_entropy(maps, wanted, ignore_index=255)
    torch.testing.assert_close(loss_of(Output("segmentation"), maps, {"mask": masks}), pixels)
    torch.testing.assert_close(loss_of(Output("segmentation"), maps.permute(0, 2, 3, 1), {"mask": masks}), pixels)
    tags = [np.array([1, -100]), np.array([0, 1, 1])]
    tokens = random(2, 3, 2)
    padded = torch.tensor([[1, -100, -100], [0, 1, 1]])
    expected = functional.cross_entropy(tokens.flatten(0, 1), padded.flatten())
    torch.testing.assert_close(loss_of(Output("tokens"), tokens, {"tags": tags}), expected)
    assert loss_of(Output("tokens"), tokens, {"tags": [np.array([-100]), np.array([-100])]}) == 0  # nothing is held


def test_labels_numbers_places_sounds_and_vectors() -> None:
    held = np.array([1, 0], np.uint8)
    scores, wanted = random(2, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    both = functional.binary_cross_entropy_with_logits(scores, wanted)
    torch.testing.assert_close(loss_of(Output("multilabel"), scores, {"labels": [held, held]}), both)
    shares = Output("multilabel", post=Post("none"))
    torch.testing.assert_close(loss_of(shares, scores.sigmoid(), {"labels": [held, held]}), both)
    yes = loss_of(Output("binary"), scores[:, :1], {"label": [np.int64(1), np.int64(0)]})
    expected = functional.binary_cross_entropy_with_logits(scores[:, 0], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(yes, expected)
    one = Output("segmentation", post=Post("sigmoid"))
    mask = {"mask": [np.array([[1, 255]]), np.array([[0, 1]])]}
    torch.testing.assert_close(
        loss_of(one, scores[:, None, None], mask),
        functional.binary_cross_entropy_with_logits(scores.flatten()[[0, 2, 3]], torch.tensor([1.0, 0.0, 1.0])),
    )
    numbers = {"value": [np.float32(1), np.float32(3)]}
    assert loss_of(Output("regression"), torch.tensor([[1.0], [1.0]]), numbers) == 2
    near = Output("regression", loss=OutputLoss("smooth_l1", beta=4.0))
    assert loss_of(near, torch.tensor([[1.0], [1.0]]), numbers) == 0.25
    # Of keypoints those that are seen count, of heatmaps their maps.
    points = {"keypoints": [np.array([[[2.5, 1.5, 2], [9, 9, 0]]], np.float32)]}
    assert loss_of(Output("keypoints"), torch.tensor([[[3.5, 1.5], [0, 0]]]), points) == 0.25
    peak = torch.zeros(1, 2, 8, 8)
    rows, columns = torch.arange(8)[:, None], torch.arange(8)[None]
    peak[0, 0] = torch.exp(-((columns - 2.0) ** 2 + (rows - 1.0) ** 2) / 2)
    assert loss_of(Output("heatmap"), peak, points) == pytest.approx(0, abs=1e-12)
    assert loss_of(Output("heatmap", loss=OutputLoss("mse", sigma=2.0)), peak, points) > 0.01
    boxes = {"boxes": [np.array([[2, 4, 6, 8]], np.float32)]}
    shares_of = Output("boxes", post=Post("none", format="cxcywh", normalized=True), loss=OutputLoss("l1"))
    assert loss_of(shares_of, torch.tensor([[[0.5, 0.75, 0.5, 0.5]]]), boxes) == 0
    assert loss_of(Output("embedding"), torch.tensor([[1.0, 0], [2.0, 0], [0, 1.0]]), {
        "label": [np.int64(0), np.int64(0), np.int64(1)]
    }) == pytest.approx(0, abs=1e-6)  # fmt: skip
    apart = {"label": [np.int64(0), np.int64(1)]}
    assert loss_of(Output("embedding"), torch.ones(2, 2), apart) == pytest.approx(1)
    vectors = {"value": [np.array([0, 2], np.float32)]}
    assert loss_of(Output("embedding", target="value"), torch.tensor([[1.0, 0.0]]), vectors) == 1
    picture = {"image": [np.full((2, 2, 3), 255, np.uint8)]}
    assert loss_of(Output("image"), torch.full((1, 3, 2, 2), 0.5), picture) == 0.5
    assert loss_of(Output("image", post=Post("none", white=255.0)), torch.full((1, 2, 2, 3), 250.0), picture) == 5
    assert loss_of(Output("waveform"), torch.ones(1, 1, 3), {"waveform": [np.zeros(3, np.float32)]}) == 1
    text, steps = {"text": [np.array("abb"), np.array("")]}, random(2, 5, 3)
    ctc = functional.ctc_loss(
        steps.log_softmax(2).transpose(0, 1), torch.tensor([1, 2, 2]), torch.tensor([5, 5]), torch.tensor([3, 0])
    )
    assert loss_of(Output("sequence"), steps, text) == ctc


def test_losses_at_their_ends_are_numbers_and_nan_is_nan() -> None:
    """A power below 1 has no gradient at 0, and torch's binary cross entropy refuses NaN."""
    label = {"label": [np.int64(0), np.int64(1)]}
    for output, scores in (
        (Output("logits", loss=OutputLoss("focal", gamma=0.5)), torch.tensor([[60.0, 0.0], [0.0, 60.0]])),
        (Output("binary", loss=OutputLoss("focal", gamma=0.5)), torch.tensor([[-200.0], [200.0]])),
    ):
        roles = RoleLosses(("y",), (replace(output, name="y"),), ABOUT)
        roles.loss(roles.named(scores.requires_grad_()), named_targets(label), smooth=True).total.backward()
        assert scores.grad is not None and torch.equal(scores.grad, torch.zeros_like(scores))
    for role in ("binary", "logits"):
        lost = Output("binary", post=Post("none")) if role == "binary" else Output("logits")
        assert math.isnan(loss_of(lost, torch.tensor([[math.nan], [0.5]]).expand(2, 1 + (role == "logits")), label))
    shares = random(2, 3).softmax(1)
    smooth = functional.cross_entropy(shares.log(), torch.tensor([0, 1]), label_smoothing=0.2)
    torch.testing.assert_close(loss_of(Output("logits", post=Post("none")), shares, label, smoothing=0.2), smooth)


@pytest.mark.parametrize(
    ("output", "values", "targets", "says"),
    [
        (Output("logits"), random(1, 3), {"label": [np.int64(3)]}, "has 3 classes, and the data have number 3"),
        (Output("logits"), random(1, 3), {"label": [np.int64(-1)]}, "has 3 classes, and the data have number -1"),
        (Output("binary"), random(1, 1), {"label": [np.int64(-1)]}, "its target is 0 or 1, found -1"),
        (Output("sequence"), random(1, 4, 1), {"text": [np.array("")]}, "it scores 1 letters, wanted 2 and a blank"),
        (Output("segmentation"), random(1, 3, 4, 4), {"mask": [np.zeros((8, 8), int)]}, "4 by 4, the masks are 8"),
        (Output("segmentation"), random(1, 1, 1, 1), {"mask": [np.zeros((1, 1), int)]}, 'loss = "bce"'),
        (Output("tokens"), random(1, 2, 2), {"tags": [np.array([0, 1, 1])]}, "tags 2 tokens, a sample has 3"),
        (Output("sequence"), random(1, 4, 3), {"text": [np.array("abba")]}, "time steps, and the text 'abba' needs 5"),
        (Output("sequence"), random(1, 4, 3), {"text": [np.array("ax")]}, "has 'x', which is none of its 2 letters"),
        (Output("regression"), random(1, 2), {"value": [np.float32(1)]}, r"shape \[1, 2\], the targets \[1\]"),
        (Output("multilabel", post=Post("none")), random(1, 2) * 9, {"labels": [np.array([1, 0])]}, 'post = "sigmoid"'),
        (Output("boxes", loss=OutputLoss("l1")), random(1, 9, 4), {"boxes": [np.zeros((2, 4))]}, "have 2 boxes"),
        (Output("image"), random(1, 3, 4, 4), {"image": [np.zeros((8, 8, 3))]}, r"targets are \[8, 8, 3\]"),
        (Output("waveform"), random(1, 4), {"waveform": [np.zeros(5)]}, "4 values of sound, the targets have 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(output: Output, values: Tensor, targets: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=rf"loss of output 'y' \(role {output.role}, .*{says}") as caught:
        loss_of(output, values, targets)
    assert "docs outputs" in caught.value.hint


TWO = (
    Output("logits", "kind", loss=OutputLoss(weight=0.5)),
    Output("regression", "size", loss=OutputLoss("l1")),
    Output("state", "memory"),
)


class Heads(nn.Module):
    """A kind, a size and what goes into the next call, by name."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.kind, self.size = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x)
        return {"kind": self.kind(y), "size": self.size(y), "memory": y}


def samples(count: int = 60) -> list[Any]:
    inputs = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    kinds = inputs[:, :3].argmax(1)
    return [((x,), {"label": np.int64(k), "value": np.float32(x.sum())}) for x, k in zip(inputs, kinds, strict=True)]


ROLES = RoleLosses(("kind", "size", "memory"), TWO, ABOUT)


def test_every_output_is_trained_by_its_own_targets_and_weight() -> None:
    module = Heads()
    history = fit(module, samples(), Finetune(epochs=12, lr=0.03, batch_size=20), FitOptions(roles=ROLES))
    first, last = history[0], history[-1]
    assert first.output_losses and last.output_losses and last.train_accuracy is None
    assert set(last.output_losses) == {"kind", "size"}
    assert last.loss == pytest.approx(0.5 * last.output_losses["kind"] + last.output_losses["size"], rel=1e-5)
    assert all(last.output_losses[name] < 0.6 * first.output_losses[name] for name in ("kind", "size"))
    assert last.figures()["loss of kind"] == last.output_losses["kind"]
    again = fit(Heads(), samples(), Finetune(epochs=12, lr=0.03, batch_size=20), FitOptions(roles=ROLES))
    assert again == history  # to the bit
    # The metric of the recipe, of the same model, by the accuracy room: as counted by hand.
    batch = gathered(samples())
    standard = standard_for(ROLES.names, TWO, "outputs", "kind.accuracy_top1", ABOUT, Path)
    kinds = module(batch[0][0])["kind"].argmax(1)
    share = float((kinds == torch.stack(list(batch[1].columns["label"]))).float().mean())
    assert standard.value(module, [batch]) == pytest.approx(share)
    # Labels are the first output's that has classes, not the judged one's.
    both = (Output("logits", "kind"), Output("sequence", "size"))
    texts = standard_for(("kind", "size"), both, "outputs", "size.cer", ABOUT, Path)
    held = named_targets({"label": [np.int64(0)], "text": [np.array("a")]})
    with pytest.raises(ModelError, match="it scores 3 letters, wanted 0 and a blank"):
        texts.value_of([((torch.ones(1, 2), torch.ones(1, 5, 3)), held)])


def gathered(rows: list[Any]) -> tuple[tuple[Tensor, ...], NamedTargets]:
    inputs, targets = Batches(rows).gather(range(len(rows)))
    assert isinstance(targets, NamedTargets)
    return inputs, targets


LOSSES = """
import torch

def of_size(outputs, targets):
    assert set(outputs) == {"kind", "size", "memory"} and targets["label"].dtype == torch.int64
    return (outputs["size"][:, 0] - targets["value"]).abs().mean()

def nan_later(outputs, targets):
    nan_later.calls = getattr(nan_later, "calls", 0) + 1
    return outputs["size"].mean() * (float("nan") if nan_later.calls > 4 else 1.0)

def raises(outputs, targets):
    return outputs["sizes"].mean()

def rows(outputs, targets):
    return outputs["size"].flatten()

def number(outputs, targets):
    return outputs["size"].mean().item()
"""


def test_users_losses_are_of_one_output_or_of_all_and_what_they_do_wrong_is_named(tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text(LOSSES, encoding="utf-8")
    inputs, targets = gathered(samples(8))
    answer = Heads()(*inputs)

    def losses(of_size: str = "", whole: str = "") -> Tensor:
        judged = (TWO[0], replace(TWO[1], loss=OutputLoss(of_size)), TWO[2])
        with role_losses(judged, ROLES.names, ABOUT, lambda file: tmp_path / file, whole) as roles:
            return roles.loss(roles.named(answer), targets, smooth=True).total

    assert losses("own.py:of_size") == ROLES(answer, targets)
    assert losses(whole="own.py:of_size") == ROLES.loss(ROLES.named(answer), targets, smooth=False).parts["size"]
    for name, says in (
        (
            "raises",
            r"loss of output 'size': raises\(\) in .*own.py raised KeyError: 'sizes'\n  at .*own.py:13 in raises",
        ),
        ("rows", r"scalar tensor, found shape \[8\]: return loss.mean\(\)"),
        ("number", "scalar tensor, found float"),
        ("nobody", r"has no function nobody\(\)"),
    ):
        with pytest.raises(ModelError, match=says):
            losses(f"own.py:{name}")
    judged = (replace(TWO[0], loss=OutputLoss("none")), replace(TWO[1], loss=OutputLoss("own.py:nan_later")), TWO[2])
    with (
        role_losses(judged, ROLES.names, ABOUT, lambda file: tmp_path / file) as roles,
        pytest.raises(ModelError, match=r"epoch 2, step 2 of 3: the loss is nan \(of output 'size'\)") as caught,
    ):
        fit(Heads(), samples(), Finetune(epochs=3, batch_size=20), FitOptions(roles=roles))
    assert "clip_norm" in caught.value.hint


def test_outputs_learn_from_a_teacher_s_outputs_of_their_names() -> None:
    teacher, rows = Heads(1), samples()
    fit(teacher, rows, Finetune(epochs=15, lr=0.03, batch_size=20), FitOptions(roles=ROLES))
    settings = Distill(alpha=1.0, temperature=2.0)
    example = gathered(rows[:2])[0]
    loss = DistillationLoss(settings, teacher, Heads(), example, roles=ROLES)
    inputs, targets = gathered(rows)
    own, others = losses_with_others(loss.roles_of_teacher(), teacher, [(inputs, targets)])
    check_teacher_of_roles(own, others, len(rows))
    untaught = losses_with_others(loss.roles_of_teacher(), Heads(7), [(inputs, targets)])
    with pytest.raises(ModelError, match="not trained for these targets"):
        check_teacher_of_roles(*untaught, len(rows))
    student = Heads()
    outputs = ROLES.named(student(*inputs))
    answer = {name: value.detach() for name, value in teacher(*inputs).items()}
    total, parts = loss(inputs, outputs, targets, torch.zeros(()))
    learned, wanted = ((each["kind"] / 2).log_softmax(1) for each in (outputs, answer))
    soft = functional.kl_div(learned, wanted, log_target=True, reduction="batchmean")
    expected = 0.5 * 4 * soft + functional.mse_loss(outputs["size"], answer["size"])
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"label_loss", "teacher_loss"}
    exact, _ = loss(inputs, ROLES.named(teacher(*inputs)), targets, torch.zeros(()))
    assert exact.item() == pytest.approx(0, abs=1e-6)
    # On targets that say nothing the student learns what the teacher knows.
    garbage = [(x, {"label": np.int64(0), "value": np.float32(0)}) for x, _ in rows]
    before = ROLES(student(*inputs), targets).item()
    fit(student, garbage, Finetune(epochs=10, lr=0.03, batch_size=20, distill=settings),
        FitOptions(roles=ROLES, teacher=loss))  # fmt: skip
    assert ROLES(student(*inputs), targets).item() < 0.5 * before


def test_a_teacher_is_held_against_others_targets_however_many_samples_there_are() -> None:
    """A last batch of one sample has nobody's targets to take; equal targets of few samples say nothing."""
    rows = samples(65)
    batches = judging_batches(rows, 64)
    assert [len(targets) for _, targets in batches] == [65]
    assert [len(targets) for _, targets in judging_batches(rows, 32)] == [32, 33]
    assert [len(targets) for _, targets in judging_batches(rows, 48)] == [48, 17]
    own, others = losses_with_others(ROLES, Heads(7), batches)
    with pytest.raises(ModelError, match="not trained for these targets"):
        check_teacher_of_roles(own, others, 65)
    # Four samples of two labels in turn: every second shift gives each its own label.
    check_teacher_of_roles(0.1, [3.0, 0.1, 3.0], 4)
    with pytest.raises(ModelError, match="not trained for these targets"):
        check_teacher_of_roles(0.7, [0.7, 0.7 + 1e-9], 3)  # answers one thing
    with pytest.raises(ModelError, match="2 calibration samples or more, there is 1"):
        check_teacher_of_roles(0.1, [], 1)


def test_the_recipe_s_own_model_teaches_by_the_names_that_the_recipe_gives() -> None:
    example = gathered(samples(2))[0]
    # One key is called as another output is: by names they would be crossed.
    judged = (Output("logits", "size"), Output("regression", "second"), Output("state", "memory"))
    roles = RoleLosses(("size", "second", "memory"), judged, ABOUT)
    taught = DistillationLoss(Distill(), Heads(1), Heads(), example, roles=roles, itself=True)
    assert taught.teacher_names == ["size", "second", "memory"]
    # Shares of classes are no scores, for dkd neither.
    labels, scores = torch.tensor([0, 2]), (random(2, 3), random(2, 3).flip(0))
    shares = [each.softmax(1) for each in scores]
    one = Output("logits", "output", post=Post("none"))
    roles = RoleLosses(("output",), (one,), ABOUT)
    kind = nn.Identity()
    loss = DistillationLoss(Distill(method="dkd", alpha=1.0), kind, kind, (shares[1],), roles=roles, itself=True)
    total, _ = loss((shares[1],), {"output": shares[0]}, named_targets({"label": list(labels.numpy())}), labels.sum())
    s = Distill()
    expected = dkd_divergence(scores[0], scores[1], labels, s.temperature, s.dkd_alpha, s.dkd_beta)
    torch.testing.assert_close(total, expected)


def test_what_stands_beside_boxes_is_a_list_whatever_a_batch_holds() -> None:
    roles = RoleLosses(("y",), (Output("boxes", "y"),), ABOUT, whole=lambda outputs, targets: kinds_of(targets))
    seen: list[dict[str, type]] = []

    def kinds_of(targets: Mapping[str, object]) -> Tensor:
        seen.append({name: type(each) for name, each in targets.items()})
        return torch.zeros(())

    for counts in ((1, 1), (1, 2)):
        boxes: dict[str, list[Any]] = {
            "boxes": [np.ones((n, 4), np.float32) for n in counts],
            "classes": [np.zeros(n, int) for n in counts],
        }
        roles.loss({}, named_targets(boxes), smooth=False)
    assert seen == [{"boxes": list, "classes": list}] * 2


def test_a_teacher_without_the_outputs_is_refused_by_their_names() -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"kind": x[:, :2], "size": x[:, :1]}

    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3]

    example = gathered(samples(2))[0]
    with pytest.raises(ModelError, match=r"output 'kind': the teacher answers \[2, 2\], the student \[2, 3\]"):
        DistillationLoss(Distill(), Other(), Heads(), example, roles=ROLES)
    with pytest.raises(ModelError, match="the teacher has no output 'kind', it has output"):
        DistillationLoss(Distill(), One(), Heads(), example, roles=ROLES)


def test_large_targets_are_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    class Rows:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, position: int) -> Any:
            read.append(position)
            return (np.zeros(4, np.float32),), {"mask": np.zeros((9, 9), np.int64)}

    for most, times in ((4 * (16 + 648), 1), (4 * (16 + 648) - 1, 2)):
        read.clear()
        monkeypatch.setattr("pocketforge.training.batches.KEEP_BYTES", most)
        batches = Batches(Rows())
        read.clear()
        for _ in range(2):
            batches.gather([3])
        assert read == [3] * times


def test_nan_never_wins() -> None:
    """argmax takes NaN for the largest: a model that answers it for its first class would be right on it."""
    x = torch.eye(3)
    broken = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        broken.weight.fill_(math.nan)
    assert top1(broken, [((x,), torch.zeros(3, dtype=torch.int64))]) == 0
    output = Output("logits", "y")
    standard = standard_for(["y"], (output,), "outputs", "accuracy_top1", ABOUT, Path)
    answered = [(torch.full((2, 3), math.nan), named_targets({"label": [np.int64(0), np.int64(0)]}))]
    assert math.isnan(standard.value_of(answered, strict=False))
    with pytest.raises(ModelError, match="it answers NaN"):
        standard.value_of(answered)
