"""What stage `data` writes, and how it is read back: calibration_0.npy …, eval_0.npy …, one file a model input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def create_samples(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new array file to fill, mapped: samples may be larger than memory. Raises OSError when the disk is full."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # All its blocks now: writing through a map to a disk without space is no error but the end of the process (SIGBUS).
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def sample_paths(folder: Path, split: str) -> list[Path]:
    """The files of a split (`calibration` or `eval`), in the order of the model's inputs."""
    return sorted(folder.glob(f"{split}_[0-9]*.npy"), key=lambda p: int(p.stem.rpartition("_")[2]))


def load_samples(folder: Path, split: str) -> list[NDArray[Any]]:
    """The arrays of a split, samples first; mapped, not read, as they may be larger than memory."""
    return [np.load(path, mmap_mode="r") for path in sample_paths(folder, split)]
