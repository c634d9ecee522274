"""TensorBoard logs of a training, one scalar a figure and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketforge import events
from pocketforge.outcomes.train import Epoch

Log = Callable[[Epoch], None]

# Which TensorBoard chart a history's figure is drawn in.
TAGS = {
    "loss": "loss/train",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "label_loss": "loss/parts/label",
    "teacher_loss": "loss/parts/teacher",
    "hint_loss": "loss/parts/hint",
    "attention_loss": "loss/parts/attention",
    "lr": "lr",
}


@contextmanager
def tensorboard(folder: Path | None, first_epoch: int, emit: events.Progress) -> Iterator[Log]:
    """A function that writes one epoch of a history. Without `folder`, or without the package, it writes nothing.

    first_epoch: a broken-off training's scalars from there on are replaced in what TensorBoard shows.
    """
    writer = None
    if folder is not None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            emit(0.0, "no TensorBoard logs: the package tensorboard is not installed")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def log(epoch: Epoch) -> None:
        if writer is not None:
            for name, value in epoch.figures().items():
                writer.add_scalar(TAGS.get(name) or f"loss/outputs/{name}", value, epoch.epoch)
            writer.flush()

    try:
        yield log
    finally:
        if writer is not None:
            writer.close()
