"""A released file against eager PyTorch, by figures of our own: nothing here asks the product what it found."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from file_answers import answers
from safetensors.torch import load_file

from pocketforge.data.dataset import open_recipe
from pocketforge.model.structure import leaves
from pocketforge.recipe.toml import load_recipe
from zoo.definition import build

MOST_SAMPLES = 32
Files = Mapping[tuple[str, str], Path]
Arrays = list[np.ndarray[Any, Any]]


def held_against(name: str, weights: Path, recipe: Path, files: Files) -> dict[str, Any]:
    """Lane, as "runtime scheme" → what `compared` says of its file."""
    held = open_recipe(load_recipe(recipe)).eval
    rows = [held[index][0] for index in range(min(MOST_SAMPLES, len(held)))]
    samples = [np.stack(column) for column in zip(*rows, strict=True)]
    module = build(name)
    module.load_state_dict(load_file(weights))
    wanted = eager(module.eval(), samples)
    found: dict[str, Any] = {}
    for (runtime, scheme), path in files.items():
        given = answers(runtime, path, samples)
        found[f"{runtime} {scheme}"] = compared(wanted, given)
    return found


def eager(module: Any, samples: Sequence[np.ndarray[Any, Any]]) -> Arrays:
    """Each output of the module, sample by sample."""
    rows = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(len(samples[0])):
            answer = module(*(torch.from_numpy(array[index : index + 1]) for array in samples))
            rows.append([leaf.value.numpy() for leaf in leaves(answer)])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def compared(wanted: Arrays, given: Arrays) -> tuple[float | None, float | None, str]:
    """Worst dB, agreement of the largest class of the first output where it is [N, classes], and what is wrong."""
    if len(wanted) != len(given):
        return None, None, f"{len(wanted)} outputs in PyTorch, {len(given)} in the file"
    worst = 300.0
    for number, (ours, theirs) in enumerate(zip(wanted, given, strict=True)):
        if ours.shape != theirs.shape:
            return None, None, f"output {number} is {list(ours.shape)} in PyTorch, {list(theirs.shape)} in the file"
        exact, off = ours.astype(np.float64), theirs.astype(np.float64) - ours.astype(np.float64)
        if not np.isfinite(off).all():
            return None, None, f"output {number} is not finite"
        energy, noise = float(((exact - exact.mean()) ** 2).mean()), float((off**2).mean())
        worst = min(worst, 10 * np.log10(max(energy, 1e-30) / max(noise, 1e-30)))
    same = float((wanted[0].argmax(1) == given[0].argmax(1)).mean()) if wanted[0].ndim == 2 else None
    return round(float(worst), 1), same, ""
