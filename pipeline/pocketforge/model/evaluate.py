"""Running a batch-1 PyTorch graph on samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pocketforge.errors import ModelError
from pocketforge.metrics import Array
from pocketforge.model.structure import leaves


def evaluate(
    module: Callable[..., object],
    samples: list[Array],
    progress: Callable[[float], None],
    limit: int | None = None,
) -> list[Array]:
    """Run (the first `limit`) samples one at a time; returns one array an output, samples first.

    samples: one array an input, samples first. Raises ModelError when the outputs are not tensors.
    """
    count = min(len(samples[0]), limit or len(samples[0]))
    rows: list[list[Array]] = []
    with torch.no_grad():
        for index in range(count):
            feeds = [torch.from_numpy(np.array(array[index : index + 1])) for array in samples]
            outputs = [leaf.value for leaf in leaves(module(*feeds))]
            rows.append([_batched(o, number) for number, o in enumerate(outputs)])
            if index % max(1, count // 20) == 0:
                progress(index / count)
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _batched(output: torch.Tensor, number: int) -> Array:
    """One sample's output. Raises ModelError where it has no batch axis: files are batch-1, and say so."""
    if output.dim() == 0 or output.shape[0] != 1:
        raise ModelError(
            f"output {number} of forward() must have a batch of 1 first, found shape {list(output.shape)}",
            "keep the batch axis: no squeeze(), no mean over it; a value that no sample changes is not an output",
        )
    values: Array = output.detach().numpy()
    return values
