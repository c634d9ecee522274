"""All that changes while a model is trained, in one place, so that it can be saved and restored as a whole."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.outcomes.train import Epoch
from pocketforge.recipe.compress import MORE_TO_TRAIN_ON, Finetune
from pocketforge.training import resume
from pocketforge.training.average import MovingAverage, copy_of, holding, put, tensors_of
from pocketforge.training.batches import Batch, Batches, BatchTargets, Inputs, TrainSamples
from pocketforge.training.engine import Engine
from pocketforge.training.losses import TaskObjective
from pocketforge.training.memory import AtOnce, parts_of
from pocketforge.training.objective import LossParts, Objective, Outputs
from pocketforge.training.options import FitOptions
from pocketforge.training.placement import batch_on
from pocketforge.training.schedule import learning_rate

# Before the name of an output whose loss is a figure of an epoch.
_PART = "loss of "


@dataclass(slots=True)
class _Sums:
    """Sums over samples. others: by the names of Epoch's fields."""

    samples: float = 0.0
    loss: float = 0.0
    others: dict[str, float] = field(default_factory=dict)

    def add(self, more: _Sums) -> None:
        self.samples += more.samples
        self.loss += more.loss
        for name, value in more.others.items():
            self.others[name] = self.others.get(name, 0.0) + value

    def over_processes(self, engine: Engine) -> _Sums:
        samples, loss, *others = engine.sums([self.samples, self.loss, *self.others.values()])
        return _Sums(samples, loss, dict(zip(self.others, others, strict=True)))


class Trainer:
    """One training of one module. See `loop.fit`, which drives it."""

    def __init__(
        self, module: nn.Module, samples: TrainSamples, settings: Finetune, options: FitOptions, engine: Engine
    ) -> None:
        self.module, self.settings, self.options, self.engine = module, settings, options, engine
        self.objective: Objective = options.roles or TaskObjective(options.task, settings.label_smoothing, options.loss)
        self.train, self.held_out = held_out_part(len(samples), settings, options.seed)
        if too_few := settings.too_few(len(samples)):
            raise ModelError(too_few, MORE_TO_TRAIN_ON)
        weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not weights:
            raise ModelError("the model has no trainable parameters")
        self.weights = weights + (list(options.teacher.regressors.parameters()) if options.teacher is not None else [])
        # Every process needs two samples of a batch.
        least = 2 * engine.world
        self.starts = [s for s in range(0, len(self.train), settings.batch_size) if len(self.train) - s >= least]
        if not self.starts or settings.batch_size < least:
            raise ModelError(f"{engine.world} processes need batches of {least} samples or more", "raise batch_size")
        self.total_steps = settings.epochs * len(self.starts)
        self.batches = Batches(samples)
        self.at_once = AtOnce(settings.batch_size, engine.halves)
        self.optimizer = _optimizer(settings, self.weights)
        self.order = torch.Generator().manual_seed(options.seed)
        self.average = MovingAverage(module, settings.ema_decay) if settings.ema_decay else None
        self.best: dict[str, Tensor] | None = None
        self.best_loss, self.waited, self.stopped = math.inf, 0, False
        self.history: list[Epoch] = []

    def epoch(self, number: int) -> Epoch:
        """Train for one epoch, validate, and decide whether to stop. Returns its part of the history."""
        settings = self.settings
        permutation = torch.randperm(len(self.train), generator=self.order).tolist()
        sums = _Sums()
        self._switch(training=True)
        for index, start in enumerate(self.starts):
            step = (number - 1) * len(self.starts) + index
            sums.add(self._step(step, [self.train[p] for p in permutation[start : start + settings.batch_size]]))
            done = (index + 1) / len(self.starts)
            self.options.emit((number - 1 + done) / settings.epochs, f"epoch {number} of {settings.epochs}")
        sums = sums.over_processes(self.engine)
        means = {name: value / sums.samples for name, value in sums.others.items()}
        figures = {name: value for name, value in means.items() if not name.startswith(_PART)}
        parts = {name.removeprefix(_PART): value for name, value in means.items() if name.startswith(_PART)}
        if self.held_out:
            figures |= self._validate()
        lr = learning_rate(settings, number * len(self.starts) - 1, len(self.starts))
        epoch = Epoch(number, sums.loss / sums.samples, lr, **figures, output_losses=parts or None)
        self.history.append(epoch)
        return epoch

    def _step(self, step: int, positions: list[int]) -> _Sums:
        """One update. Returns sums over this process's samples."""
        batch = self._batch(positions)
        sums = self.at_once.compute(
            lambda most: self._gradients(step, batch, len(positions), most),
            len(batch[1]),
            self.module,
            lambda words: self.options.emit(step / self.total_steps, words),
        )
        self.engine.average_gradients(self.weights)
        self._update(step)
        return sums

    def _gradients(self, step: int, batch: Batch, whole: int, most: int) -> _Sums:
        """Gradients of this process's part of a batch of `whole` samples, `most` computed at once."""
        self.optimizer.zero_grad()
        sums = _Sums()
        for inputs, targets in parts_of(batch, most):
            sums.add(self._backward(step, inputs, targets, whole))
        return sums

    def _backward(self, step: int, inputs: Inputs, targets: BatchTargets, whole: int) -> _Sums:
        """Adds to the gradients. Returns sums over these samples."""
        engine, teacher = self.engine, self.options.teacher
        outputs = self._outputs(inputs, targets)
        found = self.objective.loss(outputs, targets, smooth=True)
        total, parts = found.total, dict[str, Tensor]()
        if teacher is not None:
            with engine.autocast():
                total, parts = teacher(inputs, outputs, targets, total)
        self._check_finite(step, total, found)
        # Parts of a batch may be unequal: weighted so that the mean over processes is the mean over samples.
        engine.backward(total * (len(targets) * engine.world / whole))
        parts |= {f"{_PART}{name}": part for name, part in found.parts.items()}
        others = {name: part.item() * len(targets) for name, part in parts.items()}
        right = self.objective.right(outputs, targets)
        if right is not None:
            others["train_accuracy"] = right
        return _Sums(float(len(targets)), total.item() * len(targets), others)

    def _check_finite(self, step: int, total: Tensor, found: LossParts) -> None:
        """Raises ModelError for a loss that is NaN or infinite, with the epoch, the step and what made it so."""
        if math.isfinite(total.item()):
            return
        epoch, of_epoch = divmod(step, len(self.starts))
        whose = [name for name, part in found.parts.items() if not math.isfinite(part.item())]
        from_outputs = f" (of output {', '.join(map(repr, whose))})" if whose else ""
        raise ModelError(
            f"training diverged in epoch {epoch + 1}, step {of_epoch + 1} of {len(self.starts)}: the loss is "
            f"{total.item()}{from_outputs}",
            f"lower lr (now {self.settings.lr}), set clip_norm, or correct a loss of your own that divides or takes "
            "logarithms",
        )

    def _batch(self, positions: list[int]) -> Batch:
        """This process's part of a batch, moved about as the settings say."""
        shift, mine = self.settings.shift, slice(self.engine.rank, None, self.engine.world)
        inputs, targets = self.batches.gather(positions[mine])
        if shift:
            # Drawn for the whole batch, so that every process draws alike.
            inputs = tuple(
                _shifted(x, shift, _offsets(len(positions), shift, self.order)[mine]) if x.ndim == 4 else x
                for x in inputs
            )
        return batch_on((inputs, targets), self.engine.device)

    def _outputs(self, inputs: Inputs, targets: BatchTargets) -> Outputs:
        with self.engine.autocast():
            answer = self.module(*inputs)
        return self.objective.outputs(answer, targets)

    def _update(self, step: int) -> None:
        """Change the weights by their gradients, and make them obey."""
        if self.settings.clip_norm:
            self.engine.unscale(self.optimizer)
            nn.utils.clip_grad_norm_(self.weights, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step, len(self.starts))
        self.engine.step(self.optimizer)
        with torch.no_grad():
            self.engine.share_buffers(self.module)
            if self.options.constraint is not None:
                self.options.constraint.after_update(step + 1, self.total_steps)
            if self.average is not None:
                self.average.update(self.module, step + 1)

    def _validate(self) -> dict[str, float]:
        average = self.average.values if self.average is not None else None
        size = self.at_once.samples
        starts = range(0, len(self.held_out), size)
        loss, right, counts = 0.0, 0.0, False
        self._switch(training=False)
        with torch.no_grad(), holding(self.module, average):
            for start in starts[self.engine.rank :: self.engine.world]:
                inputs, targets = batch_on(self.batches.gather(self.held_out[start : start + size]), self.engine.device)
                outputs = self._outputs(inputs, targets)
                loss += self.objective.loss(outputs, targets, smooth=False).total.item() * len(targets)
                answered = self.objective.right(outputs, targets)
                right, counts = right + (answered or 0.0), counts or answered is not None
        loss, right = (value / len(self.held_out) for value in self.engine.sums([loss, right]))
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = copy_of(self.module) if average is None else {name: v.clone() for name, v in average.items()}
        else:
            self.waited += 1
            self.stopped = self.waited >= self.settings.early_stop_epochs
        return {"validation_loss": loss} | ({"validation_accuracy": right} if counts else {})

    @torch.no_grad()
    def finish(self) -> None:
        """Put the weights to keep into the module."""
        final = self.best or (self.average.values if self.average is not None else None)
        if final is not None:
            put(self.module, final)
            if self.options.constraint is not None:
                self.options.constraint.after_update(self.total_steps, self.total_steps)
        self.optimizer.zero_grad()
        self._switch(training=False)

    def _switch(self, *, training: bool) -> None:
        self.module.train(training)
        if self.options.check is not None:
            self.options.check(self.optimizer)

    def fingerprint(self) -> str:
        """What a saved state must agree with: settings, data's size, and all weights as they were at the start."""
        options = self.options
        tensors = {f"student/{name}": tensor for name, tensor in tensors_of(self.module).items()}
        if options.teacher is not None:
            tensors |= {f"teacher/{name}": tensor for name, tensor in tensors_of(options.teacher.teacher).items()}
        roles = [dataclasses.asdict(each) for each in options.roles.judged] if options.roles else []
        about = [dataclasses.asdict(self.settings), options.seed, options.task, len(self.train), self.held_out, roles]
        # Random numbers and sums are others on another kind of device: what one began the other begins anew.
        about += [] if options.device == "cpu" else [options.device]
        return resume.digest(tensors, json.dumps(about, sort_keys=True), torch.__version__)

    def state(self) -> tuple[dict[str, Tensor], resume.Progress]:
        """What the epochs to come depend on. To be called in every process."""
        teacher, constraint = self.options.teacher, self.options.constraint
        groups: dict[str, dict[str, Tensor]] = {
            "module": tensors_of(self.module),
            "constraint": constraint.state() if constraint is not None else {},
            "average": self.average.values if self.average is not None else {},
            "best": self.best or {},
            "regressors": teacher.regressors.state_dict() if teacher is not None else {},
            "order": {"state": self.order.get_state()},
            "random": self.engine.state(),
        }
        for index, values in self.optimizer.state_dict()["state"].items():
            groups[f"optimizer.{index}"] = {name: v for name, v in values.items() if isinstance(v, Tensor)}
        tensors = {f"{group}/{name}": tensor for group, some in groups.items() for name, tensor in some.items()}
        # JSON has no infinity.
        best_loss = self.best_loss if self.best is not None else None
        return tensors, resume.Progress(tuple(self.history), best_loss, self.waited, self.stopped)

    @torch.no_grad()
    def restore(self, saved: tuple[dict[str, Tensor], resume.Progress] | None) -> None:
        """Go on from what `state` gave (its fingerprint agreed)."""
        if saved is None:
            return
        tensors, progress = saved
        teacher, constraint = self.options.teacher, self.options.constraint
        groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor
        put(self.module, groups.get("module", {}))
        if constraint is not None:
            constraint.load_state(groups.get("constraint", {}))
        if self.average is not None:
            self.average.values = {name: each.to(self.engine.device) for name, each in groups["average"].items()}
        self.best = groups.get("best")
        if teacher is not None:
            teacher.regressors.load_state_dict(groups.get("regressors", {}))
        optimizer = {
            int(group.partition(".")[2]): values for group, values in groups.items() if group.startswith("optimizer.")
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": optimizer})
        self.order.set_state(tensors["order/state"])
        self.engine.restore(groups["random"])
        self.history = list(progress.history)
        self.best_loss = math.inf if progress.best_loss is None else progress.best_loss
        self.waited, self.stopped = progress.waited, progress.stopped
        self.options.emit(
            len(self.history) / self.settings.epochs,
            f"going on after epoch {len(self.history)}, where it was broken off",
        )


def held_out_part(count: int, settings: Finetune, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on, and those that decide when to stop (none without early stop): never both."""
    if not settings.early_stop_epochs:
        return list(range(count)), []
    size = settings.held_out_of(count)
    mixed = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(mixed[size:]), sorted(mixed[:size])


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
