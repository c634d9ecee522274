"""The GPUs that torch sees, in words that change when results on them may.

python -m pocketforge.training.gpus        prints them as JSON; asked by facts/gpus.py
"""

from __future__ import annotations

import json
import sys

import torch

from pocketforge.errors import DeviceUnavailable
from pocketforge.recipe.training import gpus_in_words


def gpus() -> list[str]:
    """Each: its name, compute capability, and what torch computes with there."""
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        software = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        found.append(f"{about.name}, compute capability {about.major}.{about.minor}, {software}")
    return found


def device_of(trained_on: str, processes: int) -> str:
    """`cpu` or `cuda`. trained_on: what the step's key says. Raises DeviceUnavailable where that is not here any
    more: what another GPU makes must not be stored under this key."""
    if not trained_on:
        return "cpu"
    here = gpus_in_words(gpus(), processes)
    if here != trained_on:
        raise DeviceUnavailable(
            f"the plan was to train on {trained_on}, found {here or 'no GPU'}", "plan again: pocketforge build RECIPE"
        )
    return "cuda"


if __name__ == "__main__":
    listed = gpus()
    why = "" if listed else f"torch {torch.__version__} finds no NVIDIA GPU with a driver that it can use"
    sys.stdout.write(json.dumps({"gpus": listed, "why_none": why}) + "\n")
