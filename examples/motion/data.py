"""BasicMotions: a smart watch's accelerometer and gyroscope while its wearer stands, walks, runs or plays badminton.

100 steps (10 Hz) of six channels; 40 recordings to train on and 40 to judge by, as the archive splits them. The package
aeon ships it. Its `.ts` files are read here, as aeon's own loader wants numba.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

CLASSES = ("badminton", "running", "standing", "walking")


def recordings() -> dict[str, list[tuple[np.ndarray, np.int64]]]:
    """Of each split: (100, 6) float32 and the class of each recording."""
    return {"train": read("BasicMotions_TRAIN.ts"), "eval": read("BasicMotions_TEST.ts")}


def read(name: str) -> list[tuple[np.ndarray, np.int64]]:
    package = find_spec("aeon")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("BasicMotions is in the package aeon: pip install --no-deps aeon==1.6.0")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "BasicMotions" / name
    text = path.read_text(encoding="utf-8").lower()
    records = []
    # After @data a recording a line: its channels with ":" between them, the class last.
    for line in text.partition("@data")[2].split():
        *channels, word = line.split(":")
        values = np.array([channel.split(",") for channel in channels], np.float32)
        records.append((values.T, np.int64(CLASSES.index(word))))
    return records
