"""Running a batch-1 PyTorch graph on samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pocketforge.errors import ModelError
from pocketforge.metrics import Array
from pocketforge.model.structure import leaves
from pocketforge.outcomes.reference import StepSequence


def evaluate(
    module: Callable[..., object],
    samples: Sequence[Array],
    progress: Callable[[float], None],
    limit: int | None = None,
    sequence: StepSequence | None = None,
) -> list[Array]:
    """Run (the first `limit`) samples one at a time; returns one array an output, samples first.

    samples: one array an input, samples first. sequence: of a model with states, whose rows are steps: a step gets what
    the one before gave. Raises ModelError when the outputs are not tensors.
    """
    count = min(len(samples[0]), limit or len(samples[0]))
    whole = {each.output for each in sequence.states if each.whole} if sequence else set()
    fed: dict[int, Tensor] = {}
    rows: list[list[Array]] = []
    with torch.no_grad():
        for index in range(count):
            if sequence is None or index % sequence.steps == 0:
                fed = {}
            outputs = [leaf.value for leaf in leaves(module(*one_sample(samples, index, sequence, fed)))]
            fed = {each.input: outputs[each.output] for each in sequence.states} if sequence else {}
            rows.append([_row(o, number, whole=number in whole) for number, o in enumerate(outputs)])
            if index % max(1, count // 20) == 0:
                progress(index / count)
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def one_sample(
    samples: Sequence[Array], index: int, sequence: StepSequence | None = None, fed: dict[int, Tensor] | None = None
) -> list[Tensor]:
    """What the model is given of a row. fed: place of an input → its value from the step before.

    A state whose batch axis is not the first lies whole in its row.
    """
    whole = {each.input for each in sequence.states if each.whole} if sequence else set()
    given = []
    for number, array in enumerate(samples):
        if fed and number in fed:
            given.append(fed[number])
        else:
            row = np.array(array[index : index + 1])
            given.append(torch.from_numpy(row[0] if number in whole else row))
    return given


def with_states(
    module: Callable[..., object], samples: Sequence[Array], sequence: StepSequence, progress: Callable[[float], None]
) -> list[Array]:
    """The samples with the states that the module comes to in place of zeros, so that each row can be run alone."""
    outputs = evaluate(module, samples, progress, sequence=sequence)
    filled = [np.array(array) for array in samples]
    for each in sequence.states:
        state, given = filled[each.input], outputs[each.output]
        for first in range(0, len(state), sequence.steps):
            last = min(first + sequence.steps, len(state)) - 1
            state[first + 1 : last + 1] = given[first:last]
    return filled


def _row(output: Tensor, number: int, *, whole: bool) -> Array:
    """One sample's output. Raises ModelError where it has no batch axis: files are batch-1, and say so."""
    values: Array = output.detach().numpy()
    if whole:
        return values[None]
    if output.dim() == 0 or output.shape[0] != 1:
        raise ModelError(
            f"output {number} of forward() must have a batch of 1 first, found shape {list(output.shape)}",
            "keep the batch axis: no squeeze(), no mean over it; a value that no sample changes is not an output; of a "
            'recurrent state say so: [[model.input]] state = "…"',
        )
    return values
