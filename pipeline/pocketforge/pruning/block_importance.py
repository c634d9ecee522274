"""How much a block matters, measured on the calibration samples (see layers.py for the definitions)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.pruning.base import Subject
from pocketforge.pruning.blocks import Candidate
from pocketforge.training.batches import Batch, BatchTargets
from pocketforge.training.judge import mean_loss


def outputs(subject: Subject) -> Iterator[tuple[object, BatchTargets]]:
    """The model's output and the targets, batch by batch, without gradients."""
    for inputs, targets in _copies(subject):
        with torch.no_grad():
            output = subject.module(*inputs)
        yield output, targets


def _copies(subject: Subject) -> Iterator[Batch]:
    """In-place operations at the model's beginning would write into the samples."""
    return ((tuple(value.clone() for value in inputs), targets) for inputs, targets in subject.batches)


def scalar(loss: object) -> Tensor:
    """The loss as a tensor without dimensions. Raises ModelError for what is not a single number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        form = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelError(f"the loss must be a single number, found {form}", "reduce it, as with .mean()")
    return loss.reshape(())


def calibration_loss(subject: Subject) -> float:
    """Mean over the calibration samples of the loss of `subject.module` as it is now."""
    return mean_loss(subject.module, _copies(subject), lambda output, targets: scalar(subject.loss(output, targets)))


def activations(subject: Subject, candidate: Candidate) -> Iterator[tuple[Tensor, Tensor]]:
    """A candidate's input and output, batch by batch, in the model as it is now."""
    seen: list[Tensor] = []

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        # A copy: a block may write into its input, and what follows a block into its output.
        seen.append(args[0].clone())

    def leave(_module: nn.Module, _args: object, result: Tensor | Sequence[Tensor]) -> None:
        seen.append((result if isinstance(result, Tensor) else result[0]).clone())

    first = subject.module.get_submodule(candidate.calls[0].name)
    last = subject.module.get_submodule(candidate.calls[-1].name)
    handles = [first.register_forward_pre_hook(enter), last.register_forward_hook(leave)]
    try:
        for _ in outputs(subject):
            x, y = seen
            seen.clear()
            yield x, y
    finally:
        for handle in handles:
            handle.remove()


def cosine(subject: Subject, candidates: Sequence[Candidate]) -> dict[str, float]:
    """1 - mean cosine similarity of input and output, per sample, flattened. ModelError where their shapes differ."""
    importance = {}
    for candidate in candidates:
        if not candidate.keeps_shape:
            raise ModelError(
                f"importance cosine compares a block's input with its output: {candidate.name} takes "
                f"{shape_text(candidate.input)} to {shape_text(candidate.output)}",
                'use importance = "loss" or "taylor"',
            )
        similar = [
            torch.nn.functional.cosine_similarity(x.flatten(1).double(), y.flatten(1).double(), dim=1)
            for x, y in activations(subject, candidate)
        ]
        importance[candidate.name] = 1 - float(torch.cat(similar).mean())
    return importance


def taylor(subject: Subject, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Σ |weight × gradient of the mean loss| over each candidate's weights; 0 for one without weights."""
    weights = {
        c.name: list(
            {id(p): p for call in c.calls for p in subject.module.get_submodule(call.name).parameters()}.values()
        )
        for c in candidates
    }
    every = list({id(p): p for group in weights.values() for p in group}.values())
    frozen = [p for p in every if not p.requires_grad]
    gradients = {id(p): torch.zeros_like(p) for p in every}
    samples = sum(len(targets) for _, targets in subject.batches)
    try:
        for p in frozen:
            p.requires_grad_(True)
        for inputs, targets in _copies(subject) if every else ():
            with torch.enable_grad():
                loss = scalar(subject.loss(subject.module(*inputs), targets))
                of_batch = torch.autograd.grad(loss * (len(targets) / samples), every, allow_unused=True)
            for p, gradient in zip(every, of_batch, strict=True):
                if gradient is not None:
                    gradients[id(p)] += gradient
    finally:
        for p in frozen:
            p.requires_grad_(False)
    with torch.no_grad():
        return {
            name: sum(float((p * gradients[id(p)]).abs().double().sum()) for p in group)
            for name, group in weights.items()
        }


def shape_text(shape: Sequence[int] | None) -> str:
    """A shape in a message."""
    return "no tensor" if shape is None else str(list(shape))
