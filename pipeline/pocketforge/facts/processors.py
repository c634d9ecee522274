"""How many processors this host lets us use: a benchmark on more threads than that measures their queueing."""

from __future__ import annotations

import os

from pocketforge.errors import RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.device import HostDevice

_HINT = "threads beyond them only wait for each other: set fewer"


def processors() -> int:
    """Those that this process may run on, as taskset or a container sets them."""
    return len(os.sched_getaffinity(0))


def check_threads(recipe: Recipe) -> None:
    """Raises RecipeError for host devices of a recipe with more threads than there are processors."""
    here = processors()
    faults = [
        f"device[{index}].threads must be 1 to {here} (the processors of this host), found {device.threads}"
        for index, device in enumerate(recipe.devices)
        if isinstance(device, HostDevice) and device.threads > here
    ]
    if faults:
        raise RecipeError("the recipe asks for more threads than this host has processors:", _HINT, faults)


def check_threads_option(threads: int | None) -> None:
    """As `check_threads`, of an option."""
    here = processors()
    if threads is not None and threads > here:
        raise RecipeError(f"--threads must be 1 to {here} (the processors of this host), found {threads}", _HINT)
