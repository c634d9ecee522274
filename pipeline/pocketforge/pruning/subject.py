"""What the compressing stages have in common: the model as it is so far, and real samples to judge it on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.data.dataset import open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model import load
from pocketforge.model.definitions import refuse_half_loaded
from pocketforge.model.lazy import lazy_names
from pocketforge.model.surgery import Checkpoint, load_checkpoint
from pocketforge.model.weights import load_weights
from pocketforge.pruning.base import Emit, Subject
from pocketforge.training.batches import Batches, TrainSamples

BATCH = 50


def open_checkpoint(inputs: Mapping[str, Path], spec: Mapping[str, Any], role: str = "checkpoint") -> Checkpoint:
    """The checkpoint of the step before (`role`), else the recipe's own model with its weights.

    inputs may hold the definition's own file as "definition"; else it is spec["definition"], in "data_root".

    Raises ModelError as building and loading do.
    """
    resolve = resolver(inputs.get("data_root"))
    definition = str(inputs["definition"]) if "definition" in inputs else spec["definition"]
    if role in inputs:
        return load_checkpoint(inputs[role], resolve=resolve, definition=definition)
    module = load.build_model(definition, spec["args"], resolve, seed=spec["seed"])
    lazy = lazy_names(module)
    weights = {}
    if "weights" in inputs:
        weights = load_weights(module, inputs["weights"], spec.get("weights_key", "")).to_json()
    else:
        refuse_half_loaded(module, spec["definition"])
    shapes = {name: list(module.state_dict()[name].shape) for name in lazy} if weights else {}
    return Checkpoint(module, spec["definition"], dict(spec["args"]), spec["seed"], [], weights=weights, lazy=shapes)


def subject_for(checkpoint: Checkpoint, inputs: Mapping[str, Path], spec: Mapping[str, Any], emit: Emit) -> Subject:
    """What a pruning method gets: the model, calibration samples, the task's loss."""
    resolve = resolver(inputs.get("data_root"))
    data = open_dataset(spec["data"], resolve, inputs.get("labels"))
    batches = gather(data.calibration)
    return Subject(
        module=checkpoint.module,
        example=example_for(spec, inputs, batches),
        batches=batches,
        loss=task_loss(spec["task"]),
        seed=spec["seed"],
        masks=dict(checkpoint.masks),
        emit=emit,
    )


def gather(samples: TrainSamples, limit: int | None = None) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """(The first `limit`) samples in batches, in their order."""
    count = min(len(samples), limit or len(samples))
    batches = Batches(samples, keep=False)
    return [batches.gather(range(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]


def example_for(
    spec: Mapping[str, Any], inputs: Mapping[str, Path], batches: list[tuple[tuple[Tensor, ...], Tensor]]
) -> tuple[Tensor, ...]:
    """An input: samples in the shape of the recipe's model.input, or random numbers where none fits; without one the
    definition's example_inputs(), else a sample. Never zeros, to which a network without biases answers zeros.
    """
    if spec["inputs"]:
        return tuple(_in_shape(number, given, batches) for number, given in enumerate(spec["inputs"]))
    given = load.example_inputs(spec["definition"], resolver(inputs.get("data_root")))
    if given is not None:
        return tuple(tensor[:1] for tensor in given)
    return tuple(tensor[:1] for tensor in batches[0][0])


def _in_shape(number: int, given: Mapping[str, Any], batches: list[tuple[tuple[Tensor, ...], Tensor]]) -> Tensor:
    shape, dtype = tuple(given["shape"]), getattr(torch, given["dtype"])
    sample = batches[0][0][number] if batches and number < len(batches[0][0]) else None
    if sample is not None and shape and len(sample) >= shape[0] and tuple(sample.shape[1:]) == shape[1:]:
        return sample[: shape[0]].to(dtype)
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)  # no more is known of tokens and masks


def task_loss(task: str) -> Any:
    """(outputs, targets) → scalar: cross entropy of a classification, mean square error of a regression."""
    if task == "classification":
        return nn.functional.cross_entropy

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.numel() != targets.numel():
            raise ModelError(f"the model's output has shape {list(outputs.shape)}, the targets {list(targets.shape)}")
        return nn.functional.mse_loss(outputs.reshape(targets.shape), targets)

    return loss


def accuracy(module: nn.Module, batches: list[tuple[tuple[Tensor, ...], Tensor]]) -> float:
    """Top-1 accuracy, 0 to 1."""
    right = count = 0
    with torch.no_grad():
        for inputs, targets in batches:
            right += int((module(*inputs).argmax(1) == targets).sum())
            count += len(targets)
    return right / count


def mean_loss(module: nn.Module, batches: list[tuple[tuple[Tensor, ...], Tensor]], loss: Any) -> float:
    """The loss over all samples."""
    total = count = 0.0
    with torch.no_grad():
        for inputs, targets in batches:
            total += float(loss(module(*inputs), targets)) * len(targets)
            count += len(targets)
    return total / count
