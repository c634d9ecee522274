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
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.registries import ONNX_WEIGHTS, RUNTIMES
from pocketforge.runtimes.describe import describe


def not_judged_here() -> str:
    """Why what int8 weights give on this machine says nothing of them, in words; empty where sums are exact."""
    said = saturates_here()
    return f"not judged here: {said}" if said else ""


def note_of_elsewhere(path: Path, runtime: str, scheme: str) -> tuple[str, ...]:
    """What is to be said of a file made elsewhere whose int8 weights these kernels compute with: it is judged here."""
    if ONNX_WEIGHTS not in RUNTIMES[runtime].target_keys or not SCHEMES[scheme].computes_in_integers:
        return ()
    said = saturates_here() if describe(path).dtypes.get("int8") else ""
    note = f"its weights are int8: {said}; figures and verdict are of such kernels, and may be others on ARM"
    return (note,) if said else ()


def saturates_here() -> str:
    """What a sum comes to that is not exact, in words; empty where all are."""
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
                f"kernels saturate ({runtime}, {kernels_here()}: a sum of uint8 × int8 products is "
                f"{int(wrong.flat[0]):,} and should be {exact:,})"
            )
    return ""
