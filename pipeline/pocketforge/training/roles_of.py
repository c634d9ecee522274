"""What a stage trains by, where the recipe's outputs have roles: their losses, opened with the user's among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from pocketforge.data.dataset import Dataset
from pocketforge.files import Resolve
from pocketforge.model.tensor_names import names_of_outputs
from pocketforge.recipe.compress import Finetune
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.trained import ModelSource
from pocketforge.training.batches import Batches
from pocketforge.training.judge import about_samples, kept_outputs
from pocketforge.training.losses import Loss, user_loss
from pocketforge.training.role_losses import RoleLosses, role_losses


@contextmanager
def trained_by(
    sampling: Sampling, data: Dataset, names: Sequence[str], resolve: Resolve, settings: Finetune | None = None
) -> Iterator[tuple[Loss | None, RoleLosses | None]]:
    """The user's loss of a task (None for the task's own), and what outputs with roles are trained by (None of a task).

    names: of all the model's outputs, of task `outputs`. settings: of a training, whose own loss wins. Raises
    ModelError as the losses and `kept_outputs` do.
    """
    own = settings.loss if settings is not None else ""
    smoothing = settings.label_smoothing if settings is not None else 0.0
    if sampling.task == "outputs":
        judged = kept_outputs(names, sampling.outputs, sampling.task)
        about = about_samples(data)
        with role_losses(judged, names, about, resolve, own, smoothing) as roles:
            yield None, roles
    elif own:
        with user_loss(own, resolve) as loss:
            yield loss, None
    else:
        yield None, None


def names_for(module: nn.Module, model: ModelSource, sampling: Sampling, data: Dataset, resolve: Resolve) -> list[str]:
    """Names of a model's outputs, where they have roles; none of a task."""
    if sampling.task != "outputs":
        return []
    return names_of_outputs(module, example_of(data), model, sampling.output_names, resolve)


def example_of(data: Dataset) -> tuple[Tensor, ...]:
    """A sample's inputs, batch 1."""
    inputs, _ = Batches(data.calibration, keep=False).gather([0])
    return inputs
