"""Whether this machine's kernels can judge an ONNX file of int8 weights: a model of known answers is run.

What the processor says it has is not asked: the kernels that ran are what judges.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.devices.kernels import kernels_here
from pocketforge.files import hash_file
from pocketforge.registries import RUNTIMES


def not_judged_here() -> str:
    """Why what int8 weights give on this machine says nothing of them, in words; empty where sums are exact."""
    from pocketforge.runtimes.onnx_sums import write_sums  # onnx: of no use to who has no such file

    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        model, outputs = Path(scratch, "sums.onnx"), Path(scratch, "outputs")
        wanted, samples = write_sums(model)
        paths = tuple(Path(scratch, f"in_{number}.npy") for number in range(len(samples)))
        for path, sample in zip(paths, samples, strict=True):
            np.save(path, sample)
        answer = host.run(RunRequest(RUNTIMES["onnx"].session, model, hash_file(model), paths, outputs), quiet=True)
        found = [np.load(outputs / f"outputs_{number}.npy") for number in range(len(wanted))]
    return in_words(wanted, found, answer.runtime)


def in_words(wanted: tuple[int, ...], found: list[np.ndarray], runtime: str) -> str:
    """What the sums came to, where one is not exact."""
    for exact, values in zip(wanted, found, strict=True):
        wrong = values[values != exact]
        if wrong.size:
            return (
                f"not judged here: kernels saturate ({runtime}, {kernels_here()}: a sum of uint8 × int8 products is "
                f"{int(wrong.flat[0]):,} and should be {exact:,})"
            )
    return ""
