"""Stage `why`: where a target's numbers break, from the PyTorch module to the file as an app runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from pocketforge import events
from pocketforge.errors import StageFailed
from pocketforge.measure.saturation import not_judged_here
from pocketforge.outcomes import files
from pocketforge.specs.why import WhySpec
from pocketforge.why.explain import explain


def run(inputs: Mapping[str, Path], spec: WhySpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "data_root", "weights" or "checkpoint", "reference", "export", "quantize" (where there is one).

    Writes why.json. Raises ToolFailed when the file does not load or run, StageFailed where kernels here
    say nothing of it.
    """
    if spec.int8_weights and (not_judged := not_judged_here()):
        raise StageFailed(
            f"{spec.target}: what this machine's kernels compute is not what the file means: {not_judged}",
            'ask it with onnx_weights = "uint8" in the recipe (the same levels), or on a machine of exact kernels',
        )
    torch.set_num_threads(1)
    # Not in `out`: tapped files and every layer's outputs are large, and nobody reads them again.
    with tempfile.TemporaryDirectory(prefix="pocketforge-why-") as scratch:
        explained = explain(inputs, spec, Path(scratch), emit)
    files.write(out, explained)
    emit(1.0, explained.sentence)
