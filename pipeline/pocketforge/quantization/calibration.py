"""The real samples that ranges are observed on."""

from __future__ import annotations

from pathlib import Path

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.errors import ModelError
from pocketforge.metrics import Arrays
from pocketforge.recipe.quantize import Quantize


def calibration_samples(data: Path, quantize: Quantize, steps: int = 1) -> Arrays:
    """Those that the target uses, one array a model input. steps: rows of each. Raises ModelError when there are fewer
    than it asks for."""
    arrays = load_samples(data, "calibration")
    most = quantize.calibration_samples
    there = len(arrays[0]) // steps
    if most is not None and there < most:
        raise ModelError(
            f"quantize.calibration_samples: wanted {most}, the data has {there} calibration samples",
            "raise data.calibration_samples",
        )
    return [array[: most and most * steps] for array in arrays]
