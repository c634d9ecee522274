"""Training where the recipe says. There is no GPU here: what one is asked and what it gives is played, tensors' places
are held on torch's `meta` device (an operation on tensors of two devices is an error there), fp16 runs on the CPU.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pocketforge.accuracy.post import About
from pocketforge.errors import DeviceUnavailable, ModelError
from pocketforge.pruning.unstructured import MaskConstraint
from pocketforge.recipe.compress import Distill, Finetune, LayerPair
from pocketforge.recipe.output import Output
from pocketforge.training import loop, resume
from pocketforge.training.batches import NamedTargets
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.engine import Accelerated, Engine, engine_for
from pocketforge.training.gpus import device_of, gpus
from pocketforge.training.memory import parts_of
from pocketforge.training.options import FitOptions
from pocketforge.training.role_terms import Term
from pocketforge.training.trainer import Trainer

META = torch.device("meta")
# fp16 ends at 65,504: the first gradients overflow.
SCALE = 2.0**24
OWN_ITEM = Tensor.item


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv(loop.THREADS_VARIABLE, "1")


def samples(count: int = 48):
    """Two classes of 4 numbers."""
    drawn = torch.randn(count, 4, generator=torch.Generator().manual_seed(1))
    return [((row.numpy(),), int(row[0] + row[1] > 0)) for row in drawn]


def images(count: int = 16):
    drawn = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return [((image.numpy(),), index % 3) for index, image in enumerate(drawn)]


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class Small(Engine):
    """Memory for so many samples at once, on the CPU."""

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.halves, self.holds = True, holds

    def attach(self, module: nn.Module) -> None:
        def full(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if len(inputs[0]) > self.holds:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore words")

        # Last: what comes before it in the pass has been done.
        module[-1].register_forward_pre_hook(full)


def fitted(monkeypatch, module: nn.Module, engine: Engine, train, settings: Finetune, **more):
    monkeypatch.setattr(loop, "engine_for", lambda *_: contextlib.nullcontext(engine))
    return loop.fit(module, train, settings, FitOptions(**more))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_a_batch_that_memory_does_not_hold_is_computed_in_parts_to_the_same_update(monkeypatch):
    settings = Finetune(epochs=3, batch_size=24, lr=0.05, optimizer="sgd", clip_norm=0.5, early_stop_epochs=3)
    whole, told = linear(), list[str]()
    history = loop.fit(whole, samples(), settings)
    for holds, parts in ((24, []), (7, ["12", "6"])):
        module, engine = linear(), Small(holds)
        engine.attach(module)
        found = fitted(
            monkeypatch, module, engine, samples(), settings, emit=lambda _, words: told.append(words)
        )  # fmt: skip
        assert torch.allclose(weights(module), weights(whole), atol=1e-6)
        assert [epoch.loss for epoch in found] == pytest.approx([epoch.loss for epoch in history], rel=1e-5)
        assert found[-1].validation_loss == pytest.approx(history[-1].validation_loss, rel=1e-5)
        said = [words for words in told if "memory" in words]
        assert [words.split(": ")[1].split()[0] for words in said] == parts
    module, engine = linear(), Small(1)
    engine.attach(module)
    with pytest.raises(
        ModelError, match=r"does not hold a training step of 3 samples: CUDA out of memory.*GiB\."
    ) as it:
        fitted(monkeypatch, module, engine, samples(), settings)
    assert "bf16" in it.value.hint


def test_a_pass_that_breaks_off_leaves_running_statistics_as_they_were(monkeypatch):
    counted = []
    for holds in (16, 8):
        module, engine = convolutional(), Small(holds)
        engine.attach(module)
        fitted(monkeypatch, module, engine, images(), Finetune(epochs=1, batch_size=16))
        counted.append(int(module[1].num_batches_tracked))
    assert counted == [1, 2]


def test_other_errors_stay_what_they_are_and_the_cpu_never_takes_less(monkeypatch):
    module = linear()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fitted(monkeypatch, module, Small(99), [((s[0][0][:3],), s[1]) for s in samples()], Finetune(epochs=1))
    engine = Small(7)
    engine.halves = False
    engine.attach(module)
    with pytest.raises(ModelError, match="does not hold the model and what trains it: CUDA out of memory"):
        fitted(monkeypatch, module, engine, samples(), Finetune(epochs=1))


@pytest.mark.parametrize(("count", "most", "sizes"), [(24, 24, [24]), (24, 7, [6] * 4), (5, 2, [2, 3]), (3, 2, [3])])
def test_parts_are_of_two_samples_at_least(count, most, sizes):
    inputs = (torch.arange(count),)
    named = NamedTargets({"a": list(torch.arange(count)), "text": [str(n) for n in range(count)]}, count)
    for targets in (torch.arange(count), named):
        parts = list(parts_of((inputs, targets), most))
        assert [len(part) for _, part in parts] == sizes
        assert torch.cat([part[0] for part, _ in parts]).tolist() == list(range(count))
    assert [text for _, part in parts for text in part.columns["text"]] == [str(n) for n in range(count)]


@pytest.fixture
def numbers_of_meta(monkeypatch):
    """What has no value has the value 1 where a number is asked for."""
    monkeypatch.setattr(Tensor, "item", lambda t: 1.0 if t.is_meta else OWN_ITEM(t))
    monkeypatch.setattr(Tensor, "__float__", lambda t: 1.0 if t.is_meta else float(OWN_ITEM(t)))
    monkeypatch.setattr(Tensor, "__int__", lambda t: 1 if t.is_meta else int(OWN_ITEM(t)))


@pytest.mark.usefixtures("numbers_of_meta")
def test_all_that_takes_part_in_a_training_is_on_its_device():
    distill = Distill(hints=(LayerPair("0", "0"),), attention=(LayerPair("0", "0"),))
    settings = Finetune(
        epochs=1, batch_size=8, shift=1, ema_decay=0.9, clip_norm=1.0, early_stop_epochs=1, label_smoothing=0.1,
        distill=distill,
    )  # fmt: skip
    module, teacher = convolutional(), convolutional()
    mask = torch.ones(4, 1, 3, 3, dtype=torch.uint8)
    loss = DistillationLoss(distill, teacher, module, (torch.zeros(2, 1, 8, 8),))
    for each in (module, loss.teacher, loss.regressors):
        each.to(META)
    masks = MaskConstraint.__new__(MaskConstraint)
    masks._module, masks.masks = module, {"0.weight": mask}
    options = FitOptions(teacher=loss, constraint=masks)
    trainer = Trainer(module, images(20), settings, options, Engine(META))
    with loss.attached(module):
        trainer.epoch(1)
    trainer.finish()
    assert {p.device for p in trainer.weights} == {META} == {t.device for t in (trainer.best or {}).values()}
    # The check sees what is left behind.
    trainer.engine.device = torch.device("cpu")
    with pytest.raises(RuntimeError, match="not on the expected device"), loss.attached(module):
        trainer.epoch(2)


@pytest.mark.usefixtures("numbers_of_meta")
@pytest.mark.parametrize(
    ("output", "values", "targets"),
    [
        (Output("heatmap", name="o", target="t"), (2, 5, 8, 8), torch.ones(1, 5, 3)),
        (Output("embedding", name="o", target="t"), (2, 6), torch.tensor(1)),
        (Output("regression", name="o", target="t"), (2, 6), torch.ones(6)),
    ],
)
def test_losses_of_roles_are_where_their_outputs_are(output, values, targets):
    term = Term(output, About((), (32, 32)))
    loss = term(torch.zeros(values, device=META), NamedTargets({"t": [targets.to(META)] * 2}, 2))
    assert loss.device == META and loss.ndim == 0


class Half(Accelerated):
    """fp16 as on a GPU, computed on the CPU."""

    def __init__(self, scale: float) -> None:
        Engine.__init__(self)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)

    def autocast(self):
        return torch.autocast("cpu", torch.float16)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        return [tensor]

    def backward(self, loss: Tensor) -> None:
        assert self.scaler is not None
        self.scaler.scale(loss).backward()


def test_fp16_scales_its_gradients_skips_what_overflows_and_goes_on_after_a_kill(monkeypatch, tmp_path):
    settings = Finetune(epochs=8, batch_size=16, lr=0.02, clip_norm=5.0)
    plain = linear()
    history = loop.fit(plain, samples(), settings)
    module, engine = linear(), Half(SCALE)
    found = fitted(monkeypatch, module, engine, samples(), settings)
    assert engine.scaler is not None and engine.scaler.get_scale() < SCALE
    assert history[-1].loss < found[-1].loss < 0.8 * found[0].loss

    def killed(*told: Any) -> None:
        saved(*told)
        raise KeyboardInterrupt

    saved = resume.save
    with monkeypatch.context() as patch:
        patch.setattr(resume, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(patch, linear(), Half(SCALE), samples(), settings, partial=tmp_path)
    again = linear()
    assert fitted(monkeypatch, again, Half(SCALE), samples(), settings, partial=tmp_path) == found
    assert torch.equal(weights(again), weights(module))


def test_fp16_and_gpus_are_refused_where_there_is_none():
    with (
        pytest.raises(ModelError, match='"fp16" is for GPUs, and this trains on the CPU'),
        engine_for(Finetune(precision="fp16")),
    ):
        pass
    with pytest.raises(DeviceUnavailable, match="finds no GPU to train on"), engine_for(Finetune(), "cuda"):
        pass


def test_what_a_gpu_began_the_cpu_begins_anew():
    prints = [
        Trainer(linear(), samples(), Finetune(epochs=1), FitOptions(device=device), Engine()).fingerprint()
        for device in ("cpu", "cuda")
    ]
    assert prints[0] != prints[1]


def test_gpus_in_words_and_another_one_than_planned(monkeypatch):
    assert gpus() == [] and device_of("", 4) == "cpu"
    with pytest.raises(DeviceUnavailable, match=r"was to train on A, compute .*, found no GPU"):
        device_of("A, compute capability 9.0", 1)
    about = types.SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    first, second = gpus()
    assert first == second and first.startswith("NVIDIA H200, compute capability 9.0, CUDA ")
    assert device_of(first, 2) == "cuda"
    with pytest.raises(DeviceUnavailable, match="was to train on NVIDIA A100"):
        device_of(first.replace("H200", "A100"), 1)
