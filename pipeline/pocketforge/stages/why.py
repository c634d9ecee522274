"""Stage `why`: where a target's numbers break, from the PyTorch module to the file as an app runs it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pocketforge.why.explain import explain

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "data_root", "weights" or "checkpoint", "reference", "export", "quantize" (where there is one);
    spec: target, scheme, trained, task, limits (verify's), model (definition, args, seed), export and quantize (the
    specs of these stages; quantize is {} where there is none), samples.

    Writes why.json. Raises ToolFailed when the file does not load or run.
    """
    torch.set_num_threads(1)
    # Not in `out`: tapped files and every layer's outputs are large, and nobody reads them again.
    with tempfile.TemporaryDirectory(prefix="pocketforge-why-") as scratch:
        found = explain(inputs, spec, Path(scratch), emit)
    (out / "why.json").write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False), "utf-8")
    emit(1.0, found["sentence"])
