"""What the compressing stages have in common: the model as it is so far, and real samples to judge it on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pocketforge import events
from pocketforge.data.dataset import Dataset
from pocketforge.files import Resolve, resolver
from pocketforge.model import load
from pocketforge.model.definitions import refuse_half_loaded
from pocketforge.model.lazy import lazy_names
from pocketforge.model.surgery import Checkpoint, load_checkpoint
from pocketforge.model.weights import load_weights
from pocketforge.pruning.base import Subject
from pocketforge.recipe.model import InputSpec
from pocketforge.specs.compress import CompressSpec
from pocketforge.specs.trained import ModelSource
from pocketforge.training.batches import Batch, Inputs, TrainSamples, batches_of
from pocketforge.training.losses import task_loss
from pocketforge.training.roles_of import names_for, trained_by

BATCH = 50


def open_checkpoint(inputs: Mapping[str, Path], model: ModelSource, role: str = "checkpoint") -> Checkpoint:
    """The checkpoint of the step before (`role`), else the recipe's own model with its weights.

    inputs may hold the definition's own file as "definition"; else it is model.definition, in "data_root". The module
    takes its inputs by position, whatever its forward() wants. Raises ModelError as building and loading do.
    """
    resolve = resolver(inputs.get("data_root"))
    definition = str(inputs["definition"]) if "definition" in inputs else model.definition
    checkpoint = _opened(inputs, model, role, definition, resolve)
    load.bind_inputs(checkpoint.module, definition, model.input_names, model.arguments, resolve)
    return checkpoint


def _opened(inputs: Mapping[str, Path], model: ModelSource, role: str, definition: str, resolve: Resolve) -> Checkpoint:
    if role in inputs:
        return load_checkpoint(inputs[role], resolve=resolve, definition=definition)
    module = load.build_model(definition, model.args, resolve, seed=model.seed)
    lazy = lazy_names(module)
    weights = {}
    if "weights" in inputs:
        weights = load_weights(module, inputs["weights"], model.weights_key).to_json()
    else:
        refuse_half_loaded(module, model.definition)
    shapes = {name: list(module.state_dict()[name].shape) for name in lazy} if weights else {}
    return Checkpoint(module, model.definition, dict(model.args), model.seed, [], weights=weights, lazy=shapes)


@contextmanager
def subject_for(
    checkpoint: Checkpoint, inputs: Mapping[str, Path], spec: CompressSpec, data: Dataset, emit: events.Progress
) -> Iterator[Subject]:
    """What a pruning method gets: the model, calibration samples, the loss of the task or of outputs with roles. The
    user's losses work while the context lasts.
    """
    resolve = resolver(inputs.get("data_root"))
    batches = gather(data.calibration)
    names = names_for(checkpoint.module, spec.model, spec.sampling, data, resolve)
    with trained_by(spec.sampling, data, names, resolve) as (_, roles):
        yield Subject(
            module=checkpoint.module,
            example=example_for(spec.model, spec.model_inputs, inputs, batches),
            batches=batches,
            loss=roles or task_loss(spec.sampling.task),
            seed=spec.sampling.seed,
            masks=dict(checkpoint.masks),
            emit=emit,
        )


def gather(samples: TrainSamples, limit: int | None = None) -> list[Batch]:
    """(The first `limit`) samples in batches, in their order."""
    return list(batches_of(samples, BATCH, limit))


def example_for(
    model: ModelSource,
    model_inputs: Sequence[InputSpec],
    inputs: Mapping[str, Path],
    batches: Sequence[Batch],
) -> Inputs:
    """An input: samples in the shape of the recipe's model.input, or random numbers where none fits; without one the
    definition's example_inputs(), else a sample. Never zeros, to which a network without biases answers zeros.
    """
    if model_inputs:
        return tuple(_in_shape(number, given, batches) for number, given in enumerate(model_inputs))
    given = load.example_inputs(model.definition, resolver(inputs.get("data_root")))
    if given is not None:
        return tuple(tensor[:1] for tensor in given)
    return tuple(tensor[:1] for tensor in batches[0][0])


def _in_shape(number: int, given: InputSpec, batches: Sequence[Batch]) -> Tensor:
    shape, dtype = tuple(given.shape), getattr(torch, given.dtype)
    sample = batches[0][0][number] if batches and number < len(batches[0][0]) else None
    if sample is not None and shape and len(sample) >= shape[0] and tuple(sample.shape[1:]) == shape[1:]:
        return sample[: shape[0]].to(dtype)
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)  # no more is known of tokens and masks
