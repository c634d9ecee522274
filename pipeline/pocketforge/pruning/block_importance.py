"""How much a block matters, measured on the calibration samples (see layers.py for the definitions)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketforge.errors import ModelError
from pocketforge.pruning.base import Subject
from pocketforge.pruning.blocks import Candidate


def outputs(subject: Subject) -> Iterator[tuple[Any, Tensor]]:
    """The model's output and the targets, batch by batch, without gradients."""
    for inputs, targets in subject.batches:
        with torch.no_grad():
            # Copies: in-place operations at the model's beginning would write into the samples.
            output = subject.module(*(value.clone() for value in inputs))
        yield output, targets


def scalar(loss: Any) -> Tensor:
    """The loss as a tensor without dimensions. Raises ModelError for what is not a single number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelError(f"the loss must be a single number, found {found}", "reduce it, as with .mean()")
    return loss.reshape(())


def mean_loss(subject: Subject) -> float:
    """Mean over samples of the loss of `subject.module` as it is now."""
    total, samples = 0.0, 0
    for output, targets in outputs(subject):
        total += float(scalar(subject.loss(output, targets))) * len(targets)
        samples += len(targets)
    return total / samples


def activations(subject: Subject, candidate: Candidate) -> Iterator[tuple[Tensor, Tensor]]:
    """A candidate's input and output, batch by batch, in the model as it is now."""
    seen: list[Tensor] = []
    first = subject.module.get_submodule(candidate.calls[0].name)
    last = subject.module.get_submodule(candidate.calls[-1].name)
    handles = [
        # Copies: a block may write into its input, and what follows a block into its output.
        first.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone())),
        last.register_forward_hook(
            lambda _module, _args, result: seen.append(
                (result[0] if isinstance(result, (tuple, list)) else result).clone()
            )
        ),
    ]
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
    found = {}
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
        found[candidate.name] = 1 - float(torch.cat(similar).mean())
    return found


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
        for inputs, targets in subject.batches if every else []:
            with torch.enable_grad():
                loss = scalar(subject.loss(subject.module(*(value.clone() for value in inputs)), targets))
                found = torch.autograd.grad(loss * (len(targets) / samples), every, allow_unused=True)
            for p, gradient in zip(every, found, strict=True):
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
