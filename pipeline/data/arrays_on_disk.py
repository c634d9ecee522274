"""What stage `data` wrote, read back: calibration_0.npy …, eval_0.npy …, one file a model input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sample_paths(folder: Path, split: str) -> list[Path]:
    """The files of a split (`calibration` or `eval`), in the order of the model's inputs."""
    return sorted(folder.glob(f"{split}_[0-9]*.npy"), key=lambda p: int(p.stem.rpartition("_")[2]))


def load_samples(folder: Path, split: str) -> list[NDArray[Any]]:
    """The arrays of a split, samples first; mapped, not read, as they may be larger than memory."""
    return [np.load(path, mmap_mode="r") for path in sample_paths(folder, split)]
