"""The training loop: deterministic on the CPU, and able to go on after a kill from its last whole epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.recipe.compress import Finetune
from pocketforge.training import resume
from pocketforge.training.average import MovingAverage, copy_of, holding, put, tensors_of
from pocketforge.training.batches import Batches, TrainSamples
from pocketforge.training.constraint import WeightConstraint
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.engine import Engine, engine_for
from pocketforge.training.logs import tensorboard
from pocketforge.training.losses import Loss, checked_loss, checked_outputs, task_loss
from pocketforge.training.schedule import learning_rate

THREADS_VARIABLE = "POCKETFORGE_TRAINING_THREADS"


def _threads() -> int:
    """How many threads train. Sums are split between them, so another number gives other last bits: it is fixed, but
    a machine that does other things meanwhile may set it to 1 (threads that wait for each other waste both cores).
    """
    given = os.environ.get(THREADS_VARIABLE) or "2"
    if not given.isdecimal() or int(given) < 1:
        raise ModelError(f"{THREADS_VARIABLE} must be a number of threads, 1 or more, found {given!r}")
    return int(given)


THREADS = _threads()

Emit = Callable[[float, str], None]
Check = Callable[[torch.optim.Optimizer], None]
History = list[dict[str, float]]


def silent(_fraction: float, _message: str) -> None:
    """An emit that nobody listens to."""


def fit(
    module: nn.Module,
    samples: TrainSamples,
    settings: Finetune,
    *,
    seed: int = 0,
    task: str = "classification",
    loss: Loss | None = None,
    teacher: DistillationLoss | None = None,
    constraint: WeightConstraint | None = None,
    partial: Path | None = None,
    logs: Path | None = None,
    check: Check | None = None,
    emit: Emit = silent,
) -> History:
    """Train `module` in place as `settings` say (see `Finetune`), and leave it in eval mode with the weights to keep.

    loss: of outputs and targets, a scalar; by default the task's. teacher: built from settings.distill. constraint:
    what the weights must obey; those that are kept do so exactly. partial: a folder for the state after each epoch,
    from which the same call goes on, to the same bits, when the process was killed. logs: folder for TensorBoard.
    check: is given the optimizer after each switch between train and eval mode, and raises if something is wrong.

    Returns one dict an epoch: epoch, loss, lr (of its last step), train_accuracy (classification), the parts of the
    loss with a teacher, and with early stop validation_loss (of the labels, not smoothed) and validation_accuracy.
    Figures of the train split are means over its samples as seen while training.
    A last batch of one sample is left out of its epoch (batch norm cannot take it).

    With settings.processes > 1 it is called in each of them (see distributed.py): a batch is dealt out, gradients are
    the mean over the whole batch. Batch norm takes each process's own part of a batch; the first one's running
    statistics count. Raises ModelError when there is nothing to train on, outputs do not fit the targets, or the
    loss is no longer finite.
    """
    if (settings.distill is not None) != (teacher is not None):
        raise ValueError("settings.distill and teacher go together")
    with contextlib.ExitStack() as around:
        engine = around.enter_context(engine_for(settings))
        around.enter_context(deterministic(seed + engine.rank, max(1, THREADS // engine.world)))
        if teacher is not None:
            around.enter_context(teacher.attached(module))
        emit = emit if engine.rank == 0 else silent
        training = _Training(module, samples, settings, seed, task, loss, teacher, constraint, engine, check, emit)
        fingerprint = training.fingerprint() if partial is not None else ""
        if partial is not None:
            training.restore(resume.load(partial, fingerprint, emit))
        first = len(training.history) + 1
        log = around.enter_context(tensorboard(logs if engine.rank == 0 else None, first, emit))
        for epoch in range(first, settings.epochs + 1):
            if training.stopped:
                break
            log(training.epoch(epoch))
            if partial is not None:
                state = training.state()
                if engine.rank == 0:
                    resume.save(partial, fingerprint, *state)
        training.finish()
    return training.history


class _Training:
    """All that changes from epoch to epoch, in one place, so that it can be saved and restored as a whole."""

    def __init__(
        self,
        module: nn.Module,
        samples: TrainSamples,
        settings: Finetune,
        seed: int,
        task: str,
        loss: Loss | None,
        teacher: DistillationLoss | None,
        constraint: WeightConstraint | None,
        engine: Engine,
        check: Check | None,
        emit: Emit,
    ) -> None:
        self.module, self.settings, self.seed, self.task = module, settings, seed, task
        self.teacher, self.constraint, self.engine, self.emit = teacher, constraint, engine, emit
        self._check = check
        self.train, self.held_out = held_out_part(len(samples), settings, seed)
        if len(self.train) < 2:
            raise ModelError(
                f"training needs at least 2 samples, the train split has {len(self.train)}"
                + (f" beside {len(self.held_out)} held out" if self.held_out else ""),
                "lower data.calibration_samples or data.eval_fraction, or add data",
            )
        weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not weights:
            raise ModelError("the model has no trainable parameters")
        self.weights = weights + (list(teacher.regressors.parameters()) if teacher is not None else [])
        # Every process needs two samples of a batch.
        least = 2 * engine.world
        self.starts = [s for s in range(0, len(self.train), settings.batch_size) if len(self.train) - s >= least]
        if not self.starts or settings.batch_size < least:
            raise ModelError(f"{engine.world} processes need batches of {least} samples or more", "raise batch_size")
        self.total_steps = settings.epochs * len(self.starts)
        self.loss = loss or task_loss(task, settings.label_smoothing)
        self.validation_loss = loss or task_loss(task)
        self.batches = Batches(samples)
        self.optimizer = _optimizer(settings, self.weights)
        self.order = torch.Generator().manual_seed(seed)
        self.average = MovingAverage(module, settings.ema_decay) if settings.ema_decay else None
        self.best: dict[str, Tensor] | None = None
        self.best_loss, self.waited, self.stopped = math.inf, 0, False
        self.history: History = []

    def epoch(self, number: int) -> dict[str, float]:
        """Train for one epoch, validate, and decide whether to stop. Returns its part of the history."""
        settings = self.settings
        permutation = torch.randperm(len(self.train), generator=self.order).tolist()
        sums: dict[str, float] = {}
        self._switch(training=True)
        for index, start in enumerate(self.starts):
            step = (number - 1) * len(self.starts) + index
            positions = [self.train[p] for p in permutation[start : start + settings.batch_size]]
            for name, value in self._step(step, positions).items():
                sums[name] = sums.get(name, 0.0) + value
            done = (index + 1) / len(self.starts)
            self.emit((number - 1 + done) / settings.epochs, f"epoch {number} of {settings.epochs}")
        sums = dict(zip(sums, self.engine.sums(list(sums.values())), strict=True))
        if not math.isfinite(sums["loss"]):
            raise ModelError(
                f"training diverged in epoch {number}: the loss is {sums['loss']}", f"lower lr (now {settings.lr})"
            )
        seen = sums.pop("seen")
        lr = learning_rate(settings, number * len(self.starts) - 1, len(self.starts))
        entry = {"epoch": number, **{name: value / seen for name, value in sums.items()}, "lr": lr}
        if self.held_out:
            entry |= self._validate()
        self.history.append(entry)
        return entry

    def _step(self, step: int, positions: list[int]) -> dict[str, float]:
        """One update. Returns sums over this process's samples."""
        settings, engine = self.settings, self.engine
        mine = slice(engine.rank, None, engine.world)
        inputs, targets = self.batches.gather(positions[mine])
        if settings.shift:
            # Drawn for the whole batch, so that every process draws alike.
            inputs = tuple(
                _shifted(x, settings.shift, _offsets(len(positions), settings.shift, self.order)[mine])
                if x.ndim == 4
                else x
                for x in inputs
            )
        targets = targets if self.task == "classification" else targets.float()
        with engine.autocast():
            answer = self.module(*inputs)
        outputs = checked_outputs(answer, targets, self.task)
        total = checked_loss(self.loss(outputs, targets))
        parts: dict[str, Tensor] = {}
        if self.teacher is not None:
            with engine.autocast():
                total, parts = self.teacher(inputs, outputs, targets, total)
        self.optimizer.zero_grad()
        # Parts of a batch may be unequal: weighted so that the mean over processes is the mean over samples.
        engine.backward(total * (len(targets) * engine.world / len(positions)))
        engine.average_gradients(self.weights)
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(self.weights, settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, len(self.starts))
        self.optimizer.step()
        with torch.no_grad():
            engine.share_buffers(self.module)
            if self.constraint is not None:
                self.constraint.after_update(step + 1, self.total_steps)
            if self.average is not None:
                self.average.update(self.module, step + 1)
        found = {"loss": total.item() * len(targets), "seen": float(len(targets))}
        if self.task == "classification":
            found["train_accuracy"] = float((outputs.argmax(1) == targets).sum())
        return found | {name: part.item() * len(targets) for name, part in parts.items()}

    def _validate(self) -> dict[str, float]:
        kept = self.average.values if self.average is not None else None
        size = self.settings.batch_size
        starts = range(0, len(self.held_out), size)
        loss = right = 0.0
        self._switch(training=False)
        with torch.no_grad(), holding(self.module, kept):
            for start in starts[self.engine.rank :: self.engine.world]:
                inputs, targets = self.batches.gather(self.held_out[start : start + size])
                targets = targets if self.task == "classification" else targets.float()
                with self.engine.autocast():
                    answer = self.module(*inputs)
                outputs = checked_outputs(answer, targets, self.task)
                loss += checked_loss(self.validation_loss(outputs, targets)).item() * len(targets)
                if self.task == "classification":
                    right += float((outputs.argmax(1) == targets).sum())
        loss, right = (value / len(self.held_out) for value in self.engine.sums([loss, right]))
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = copy_of(self.module) if kept is None else {name: v.clone() for name, v in kept.items()}
        else:
            self.waited += 1
            self.stopped = self.waited >= self.settings.early_stop_epochs
        found = {"validation_loss": loss}
        return found | ({"validation_accuracy": right} if self.task == "classification" else {})

    @torch.no_grad()
    def finish(self) -> None:
        """Put the weights to keep into the module."""
        kept = self.best or (self.average.values if self.average is not None else None)
        if kept is not None:
            put(self.module, kept)
            if self.constraint is not None:
                self.constraint.after_update(self.total_steps, self.total_steps)
        self.optimizer.zero_grad()
        self._switch(training=False)

    def _switch(self, *, training: bool) -> None:
        self.module.train(training)
        if self._check is not None:
            self._check(self.optimizer)

    def fingerprint(self) -> str:
        """What a saved state must agree with: settings, data's size, and all weights as they were at the start."""
        tensors = {f"student/{name}": tensor for name, tensor in tensors_of(self.module).items()}
        if self.teacher is not None:
            tensors |= {f"teacher/{name}": tensor for name, tensor in tensors_of(self.teacher.teacher).items()}
        about = [dataclasses.asdict(self.settings), self.seed, self.task, len(self.train), self.held_out]
        return resume.digest(tensors, json.dumps(about, sort_keys=True), torch.__version__)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and numbers that the epochs to come depend on. To be called in every process."""
        groups: dict[str, dict[str, Tensor]] = {
            "module": tensors_of(self.module),
            "constraint": self.constraint.state() if self.constraint is not None else {},
            "average": self.average.values if self.average is not None else {},
            "best": self.best or {},
            "regressors": self.teacher.regressors.state_dict() if self.teacher is not None else {},
            "order": {"state": self.order.get_state()},
            "random": {str(n): state for n, state in enumerate(self.engine.gathered(torch.get_rng_state()))},
        }
        for index, values in self.optimizer.state_dict()["state"].items():
            groups[f"optimizer.{index}"] = {name: v for name, v in values.items() if isinstance(v, Tensor)}
        tensors = {f"{group}/{name}": tensor for group, some in groups.items() for name, tensor in some.items()}
        numbers = {
            "history": self.history,
            # JSON has no infinity.
            "best_loss": self.best_loss if self.best is not None else None,
            "waited": self.waited,
            "stopped": self.stopped,
        }
        return tensors, numbers

    @torch.no_grad()
    def restore(self, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
        """Go on from what `state` gave (its fingerprint agreed)."""
        if saved is None:
            return
        tensors, numbers = saved
        groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor
        put(self.module, groups.get("module", {}))
        if self.constraint is not None:
            self.constraint.load_state(groups.get("constraint", {}))
        if self.average is not None:
            self.average.values = groups["average"]
        self.best = groups.get("best")
        if self.teacher is not None:
            self.teacher.regressors.load_state_dict(groups.get("regressors", {}))
        optimizer = {
            int(group.partition(".")[2]): values for group, values in groups.items() if group.startswith("optimizer.")
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": optimizer})
        self.order.set_state(groups["order"]["state"])
        torch.set_rng_state(groups["random"][str(self.engine.rank)])
        self.history = numbers["history"]
        self.best_loss = math.inf if numbers["best_loss"] is None else numbers["best_loss"]
        self.waited, self.stopped = numbers["waited"], numbers["stopped"]
        self.emit(
            len(self.history) / self.settings.epochs,
            f"going on after epoch {len(self.history)}, where it was broken off",
        )


def held_out_part(count: int, settings: Finetune, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on, and those that decide when to stop (none without early stop): never both."""
    if not settings.early_stop_epochs:
        return list(range(count)), []
    size = max(1, round(count * settings.validation_fraction))
    mixed = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(mixed[size:]), sorted(mixed[:size])


def accuracy(module: nn.Module, samples: TrainSamples, *, batch_size: int = 64) -> float:
    """Top-1 accuracy of `module` in eval mode, 0 to 1."""
    batches = Batches(samples, keep=False)
    right = 0
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            inputs, labels = batches.gather(range(start, min(start + batch_size, len(samples))))
            right += int((checked_outputs(module(*inputs), labels, "classification").argmax(1) == labels).sum())
    module.train(was_training)
    return right / len(samples)


@contextmanager
def deterministic(seed: int, threads: int = THREADS) -> Iterator[None]:
    """Seeded, deterministic algorithms and a fixed number of threads inside; everything as before outside."""
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.set_num_threads(before[1])


def _optimizer(settings: Finetune, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(weights, lr=settings.lr, weight_decay=settings.weight_decay, momentum=settings.momentum)


def _offsets(count: int, limit: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2 * limit + 1, (count, 2), generator=generator)


def _shifted(images: Tensor, limit: int, offsets: Tensor) -> Tensor:
    """Each image of (N, C, H, W) moved by its own offset; what comes in repeats the edge."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (limit, limit, limit, limit), mode="replicate")
    moved = zip(padded, offsets.tolist(), strict=True)
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in moved])
