"""Where a recipe's training will run: GPUs are asked for by torch itself, in a process of its own, and only where a
recipe wants them and torch is built for them.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pocketforge.errors import DeviceUnavailable, RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.training import places_of_training

_ASKED_S = 120


def training_gpus(recipe: Recipe, look: Callable[[], tuple[Sequence[str], str]] | None = None) -> tuple[str, ...]:
    """The GPUs that the recipe's steps train on, each in words; none: they train on the CPU, or none trains.

    Raises as `gpus_for`.
    """
    places = places_of_training(recipe.finetunes(), recipe.targets)
    return gpus_for(recipe.training.device, places, look)


def gpus_for(
    wanted: str, places: Mapping[str, Finetune], look: Callable[[], tuple[Sequence[str], str]] | None = None
) -> tuple[str, ...]:
    """Those that trainings run on where `training.device` is `wanted`. places: where each stands in the recipe.

    look: gives those that are here, and why there is none. Raises DeviceUnavailable for device "cuda" without one or
    with fewer than processes want, RecipeError for fp16 where "auto" is the CPU.
    """
    if wanted == "cpu" or not places:
        return ()
    gpus, why_none = (look or gpus_here)()
    if not gpus and wanted == "cuda":
        raise DeviceUnavailable(
            f'training.device is "cuda", and there is no GPU to train on: {why_none}',
            'device = "auto" trains on the CPU where there is none',
        )
    faults = [
        f'{place}.precision is "fp16", which is for GPUs, and training.device = "auto" is the CPU here ({why_none})'
        for place, entry in places.items()
        if not gpus and entry.precision == "fp16"
    ]
    if faults:
        raise RecipeError(
            "the recipe asks for what the CPU cannot train:", '"bf16" and "fp32" train everywhere', faults
        )
    most = max(entry.processes for entry in places.values())
    if gpus and most > len(gpus):
        raise DeviceUnavailable(
            f"processes = {most} train on a GPU each, found {len(gpus)}: {', '.join(gpus)}",
            'lower processes, or train on the CPU (training.device = "cpu")',
        )
    return tuple(gpus)


def gpus_here() -> tuple[Sequence[str], str]:
    """Those that torch sees here, each in words, and why there is none."""
    version, cuda = torch_build()
    if not cuda:
        return (), f"torch {version} is built without CUDA" if version else "torch is not installed"
    argv = [sys.executable, "-P", "-m", "pocketforge.training.gpus"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_ASKED_S, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", "") or "").strip().splitlines()[-1:] or [str(error)]
        return (), f"torch {version} could not say which there are: {said[0]}"
    return tuple(found["gpus"]), found["why_none"]


def torch_build() -> tuple[str, str]:
    """The version of the torch that is installed and the CUDA that it is built with, each empty where there is none.
    Its version.py is read, not run: importing torch takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "", ""
    found = {"__version__": "", "cuda": ""}
    for node in ast.parse(Path(spec.origin).with_name("version.py").read_bytes()).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        for name in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(name, ast.Name) and name.id in found:
                found[name.id] = str(node.value.value or "")
    return found["__version__"], found["cuda"]
