"""What a file with post-processing inside has to answer: the same, done to PyTorch's own outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.accuracy.base import Array
from pocketforge.accuracy.judging import with_names
from pocketforge.recipe.output import Output
from pocketforge.recipe.package import Package
from pocketforge.recipe.packed import packed_output


def packed_place(package: Package, judged: Sequence[Output], names: Sequence[str], task: str) -> int | None:
    """Which output something is done to, by its place; None for none. judged: the recipe's. names: of the model's
    outputs, in order."""
    if package.postprocess == "none":
        return None
    output = packed_output(package, with_names(judged, names, task))
    assert output is not None, "the recipe's rules see to it"
    return list(names).index(output.name)


def answered(package: Package, values: Array) -> Array:
    """An output after post-processing, by torch itself. values: samples first."""
    import torch

    given = torch.from_numpy(np.array(values))
    done = {
        "softmax": lambda v: v.softmax(1),
        "sigmoid": torch.sigmoid,
        "argmax": lambda v: v.argmax(1),
        "masks": lambda v: v.softmax(1).permute(0, 2, 3, 1),
    }
    answers: Array = done[package.postprocess](given).numpy()
    return answers
