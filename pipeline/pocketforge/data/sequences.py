"""Samples that are sequences, as the steps of them: what a model with states is fed one after the other.

A sample of such a model holds T steps of each input that is no state. On disk a step is a row, as a sample of other
models is: T rows a sample, in their order. States have rows of zeros: a sequence begins with them, and later steps get
what the step before gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pocketforge.data.arrays_on_disk import create_samples, sample_paths
from pocketforge.errors import ModelError
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, PreprocessingOfInputs
from pocketforge.recipe.model import InputSpec, names_of_inputs


def stored_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """One row of a tensor on disk: without its batch axis where that is the first, else all of it."""
    return tuple(shape[1:]) if shape and shape[0] == 1 else tuple(shape)


def prepared_steps(
    prepared: Preprocessing | PreprocessingOfInputs, inputs: Sequence[InputSpec]
) -> Preprocessing | PreprocessingOfInputs:
    """What is done to each of the model's inputs: to what samples give as `prepared` says, to a state nothing.

    inputs: all of the model's, in order. Raises ModelError where a state is between inputs that one list makes.
    """
    if isinstance(prepared, Preprocessing) and prepared.input is None:
        return prepared  # all are fed as they are
    names = names_of_inputs(inputs)
    given = [name for name, each in zip(names, inputs, strict=True) if not each.state]
    if isinstance(prepared, Preprocessing):
        alone = InputPreprocessing(given[0], len(given), prepared.input, prepared.output, prepared.steps)
        prepared = PreprocessingOfInputs((alone,))
    waiting, found, left = list(prepared.inputs), list[InputPreprocessing](), 0
    for name, each in zip(names, inputs, strict=True):
        if each.state and left:
            raise ModelError(
                f"model.input: the state {name!r} is between inputs that one list of data.preprocess makes",
                "let inputs of one list follow one another",
            )
        if each.state:
            found.append(InputPreprocessing(name, 1, None, None, ()))
        elif left:
            left -= 1
        else:
            found.append(waiting.pop(0))
            left = found[-1].gives - 1
    return PreprocessingOfInputs(tuple(found))


def write_steps(folder: Path, split: str, inputs: Sequence[InputSpec]) -> int:
    """Make rows of the samples of a split that lie in `folder`, and files of zeros for states. Returns T.

    inputs: all of the model's, in order. Raises ModelError where samples are no sequences of steps of these shapes.
    """
    paths = sample_paths(folder, split)
    steps_in = [each for each in inputs if not each.state]
    if len(paths) != len(steps_in):
        raise ModelError(
            f"data.source: samples have {len(paths)} inputs, the model has {len(steps_in)} beside its states",
            "a sample gives the inputs that are no state; states begin with zeros",
        )
    arrays = [np.load(path) for path in paths]
    counts: set[int] = set()
    for each, array in zip(steps_in, arrays, strict=True):
        if array.ndim != len(each.shape) + 1 or array.shape[2:] != each.shape[1:] or array.shape[1] < 1:
            wanted = ", ".join(str(n) for n in ("T", *each.shape[1:]))
            raise ModelError(
                f"data.source: a sample is {list(array.shape[1:])}, wanted [{wanted}]: a sequence of T steps",
                "a model with states (model.input state = …) is verified over sequences",
            )
        counts.add(int(array.shape[1]))
    if len(counts) > 1:
        raise ModelError(f"data.source: inputs have sequences of {' and '.join(map(str, sorted(counts)))} steps")
    (steps,) = counts
    left = iter(arrays)
    rows = len(arrays[0]) * steps
    for path in paths:
        path.unlink()
    for number, each in enumerate(inputs):
        path = folder / f"{split}_{number}.npy"
        if each.state:
            create_samples(path, np.dtype(each.dtype), (rows, *stored_shape(each.shape))).flush()
        else:
            array = next(left)
            np.save(path, array.reshape(rows, *array.shape[2:]))
    return steps
