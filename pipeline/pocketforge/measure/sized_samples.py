"""Real samples at each size that files are tried at, where sizes of inputs vary, and what the model and its quantized
graph answer to them: size_0/inputs_0.npy … and outputs_0.npy …, in the folders of the steps that made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.resized import resized
from pocketforge.metrics import Array, Arrays
from pocketforge.model.evaluate import evaluate
from pocketforge.outcomes import files
from pocketforge.outcomes.reference import Reference, VaryingSizes
from pocketforge.recipe.sizes import SizeRange, Sizes, tried_sizes

# At each size; files are compared with the model on many more at the one that is evaluated.
SIZED_SAMPLES = 8


def varying_sizes(inputs: Sequence[tuple[SizeRange, ...]], outputs: tuple[tuple[int, ...], ...]) -> VaryingSizes | None:
    """inputs: of each what varies; outputs: of each the axes that follow. None where nothing varies."""
    ranges = [each for given in inputs for each in given]
    return VaryingSizes(tuple(inputs), outputs, tried_sizes(ranges)) if ranges else None


def write_model_at_sizes(
    varying: VaryingSizes | None, module: Callable[..., object], samples: Sequence[Array], out: Path
) -> None:
    """Real samples at each size, and what the model answers. Nothing where no size varies."""
    for sizes, folder in zip(varying.tried, varying.folders(out), strict=True) if varying else ():
        assert varying is not None
        folder.mkdir()
        given = _at(varying, [array[:SIZED_SAMPLES] for array in samples], sizes)
        for number, array in enumerate(given):
            np.save(folder / f"inputs_{number}.npy", array)
        _write_answers(module, given, folder)


def write_graph_at_sizes(load: Callable[[], Callable[..., object]], reference: Path, out: Path) -> None:
    """What a quantized graph answers to the same samples. load: gives it. reference: that stage's folder."""
    varying = files.read(reference, Reference).varying
    if varying is None:
        return
    graph = load()
    for given, folder in zip(varying.folders(reference), varying.folders(out), strict=True):
        folder.mkdir()
        _write_answers(graph, load_samples(given, "inputs"), folder)


def parts_at_sizes(reference: Path, samples: Arrays) -> tuple[Arrays, ...]:
    """An equal part of the samples at each size; none where no size varies. reference: that stage's folder."""
    varying = files.read(reference, Reference).varying
    tried = varying.tried if varying else ()
    parts = [[array[place :: len(tried)] for array in samples] for place in range(len(tried))]
    return tuple(_at(varying, part, sizes) for part, sizes in zip(parts, tried, strict=True) if varying)


def _at(varying: VaryingSizes, samples: Sequence[Array], sizes: Sizes) -> list[Array]:
    shapes = [varying.shape_at(number, array.shape, sizes)[1:] for number, array in enumerate(samples)]
    return [resized(array, shape) for array, shape in zip(samples, shapes, strict=True)]


def _write_answers(module: Callable[..., object], given: Sequence[Array], folder: Path) -> None:
    for number, array in enumerate(evaluate(module, given, lambda _: None)):
        np.save(folder / f"outputs_{number}.npy", array)
