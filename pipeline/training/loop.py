"""The training loop: deterministic on the CPU, cosine schedule to 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError

# Sums are split between threads, so another number of threads gives other last bits: the number is fixed.
THREADS = 2
# A train set below this is preprocessed once and kept; above it, samples are read again in every epoch.
KEEP_BYTES = 1 << 30

Emit = Callable[[float, str], None]


def silent(_fraction: float, _message: str) -> None:
    """An emit that nobody listens to."""


class TrainSamples(Protocol):
    """`samples[i]` → (the model's inputs without a batch dimension, the label). `data.dataset.Samples` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> tuple[tuple[Any, ...], Any]: ...


def fit(
    module: nn.Module,
    samples: TrainSamples,
    *,
    epochs: int,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    lr: float = 5e-4,
    weight_decay: float = 1e-2,
    batch_size: int = 64,
    label_smoothing: float = 0.0,
    seed: int = 0,
    shift: int = 0,
    emit: Emit = silent,
) -> list[dict[str, float]]:
    """Train `module` in place on labelled samples (cross entropy) and leave it in eval mode.

    Returns one {"epoch", "loss", "train_accuracy"} an epoch: means over its samples, as seen while training.
    sgd has momentum 0.9. shift: images (N, C, H, W) are moved by up to so many pixels each way, anew in every epoch.
    A last batch of one sample is left out of its epoch (batch norm cannot take it).
    Raises ModelError when there is nothing to train on, a label has no output, or the loss is no longer finite.
    """
    if len(samples) < 2:
        raise ModelError(
            f"training needs at least 2 samples, the train split has {len(samples)}",
            "lower data.calibration_samples or data.eval_fraction, or add data",
        )
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not weights:
        raise ModelError("the model has no trainable parameters")
    batches = _Batches(samples)
    starts = [start for start in range(0, len(samples), batch_size) if len(samples) - start > 1]
    history: list[dict[str, float]] = []
    with deterministic(seed):
        update = _optimizer(optimizer, weights, lr, weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(update, epochs * len(starts))
        order = torch.Generator().manual_seed(seed)
        module.train()
        for epoch in range(1, epochs + 1):
            permutation = torch.randperm(len(samples), generator=order).tolist()
            total_loss, right, seen = 0.0, 0, 0
            for step, start in enumerate(starts):
                inputs, labels = batches.gather(permutation[start : start + batch_size])
                if shift:
                    inputs = tuple(_shifted(x, shift, order) if x.ndim == 4 else x for x in inputs)
                logits = _logits(module(*inputs), labels)
                loss = nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
                update.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                update.step()
                schedule.step()
                total_loss += loss.item() * len(labels)
                right += int((logits.argmax(1) == labels).sum())
                seen += len(labels)
                emit((epoch - 1 + (step + 1) / len(starts)) / epochs, f"epoch {epoch} of {epochs}")
            if not math.isfinite(total_loss):
                raise ModelError(
                    f"training diverged in epoch {epoch}: the loss is {total_loss}", f"lower lr (now {lr})"
                )
            history.append({"epoch": epoch, "loss": total_loss / seen, "train_accuracy": right / seen})
        module.eval()
    return history


def accuracy(module: nn.Module, samples: TrainSamples, *, batch_size: int = 64) -> float:
    """Top-1 accuracy of `module` in eval mode, 0 to 1."""
    batches = _Batches(samples, keep=False)
    right = 0
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            inputs, labels = batches.gather(range(start, min(start + batch_size, len(samples))))
            right += int((_logits(module(*inputs), labels).argmax(1) == labels).sum())
    module.train(was_training)
    return right / len(samples)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeded, deterministic algorithms and a fixed number of threads inside; everything as before outside."""
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.set_num_threads(before[1])


def _optimizer(name: str, weights: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(weights, lr=lr, weight_decay=weight_decay, momentum=0.9)


def _shifted(images: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Each image of (N, C, H, W) moved by its own random offset; what comes in repeats the edge."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (limit, limit, limit, limit), mode="replicate")
    offsets = torch.randint(0, 2 * limit + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)])


def _logits(output: Any, labels: Tensor) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 2:
        found = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"training needs a model that returns logits (batch, classes), found {found}")
    if int(labels.max()) >= output.shape[1]:
        raise ModelError(
            f"the data has label {int(labels.max())}, the model has {output.shape[1]} outputs",
            "model.args must build the model for the data's classes",
        )
    return output


class _Batches:
    """Gathers samples into tensors; a small set is read once and kept."""

    def __init__(self, samples: TrainSamples, keep: bool = True) -> None:
        self._samples = samples
        first = samples[0][0]
        size = sum(np.asarray(array).nbytes for array in first) * len(samples)
        self._kept: dict[int, tuple[tuple[Any, ...], Any]] | None = {} if keep and size <= KEEP_BYTES else None

    def gather(self, positions: Sequence[int]) -> tuple[tuple[Tensor, ...], Tensor]:
        rows = [self._sample(position) for position in positions]
        try:
            columns = [np.stack(column) for column in zip(*(inputs for inputs, _ in rows), strict=True)]
        except ValueError as error:
            raise ModelError(
                f"data.source: samples differ in shape: {error}", "set data.preprocess.resize and data.preprocess.color"
            ) from error
        labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
        return tuple(torch.from_numpy(column) for column in columns), labels

    def _sample(self, position: int) -> tuple[tuple[Any, ...], Any]:
        if self._kept is None:
            return self._samples[position]
        if position not in self._kept:
            self._kept[position] = self._samples[position]
        return self._kept[position]
