"""A candidate's real cost: exported in float to a runtime, and timed on the host beside other candidates.

Files are timed in turns, each time in a new process, and in the other order every second round (ABBA): what slows the
machine down for a while slows all of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.files import gzip_size_bytes, hash_file
from pocketforge.model import load
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.base import ExportRequest, load_exporter

ROUNDS = 4
# A round's sample count and time: enough for a steady median, short enough for many rounds.
SAMPLES, SECONDS, WARMUP = 30, 0.15, 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One exported float file.

    Attributes:
        runtime: Whose file it is.
        path: Where it lies.
        sha256: Of its content.
        size_bytes: As it is.
        gzip_bytes: At gzip's level 9.
    """

    runtime: str
    path: Path
    sha256: str
    size_bytes: int
    gzip_bytes: int


def export_float(
    module: nn.Module, example: tuple[Tensor, ...], runtime: str, folder: Path, model_layout: str = "NCHW"
) -> Trial:
    """Export `module` to `runtime` as it is, into an empty or new folder. Raises as the exporter does."""
    exporter = load_exporter(runtime)
    program = load.trace(module, example)
    outputs = len(program.graph_signature.user_outputs)
    request = ExportRequest(
        program=program,
        unfolded=None,
        example=example,
        input_names=tuple(f"input_{n}" for n in range(len(example))),
        output_names=tuple(f"output_{n}" for n in range(outputs)),
        layout="NCHW",
        io="float32",
        opset=None,
        model_layout=model_layout,
    )
    folder.mkdir(parents=True, exist_ok=True)
    result = exporter.export(request, folder)
    path = folder / result.files["model"]
    return Trial(runtime, path, hash_file(path), path.stat().st_size, gzip_size_bytes(path))


def time_in_turns(
    trials: Sequence[Trial],
    inputs: Sequence[Path],
    *,
    rounds: int = ROUNDS,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> list[list[float]]:
    """Medians in ms of each file, one for each round (in the rounds' order): files × rounds.

    inputs: one .npy of real samples for each model input. Raises ToolFailed when a file does not load or run.
    """
    medians: list[list[float]] = [[] for _ in trials]
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        for round_ in range(rounds):
            order = range(len(trials)) if round_ % 2 == 0 else reversed(range(len(trials)))
            for done, index in enumerate(order):
                trial = trials[index]
                answer = host.run(
                    RunRequest(
                        session=RUNTIMES[trial.runtime].session,
                        model=trial.path,
                        sha256=trial.sha256,
                        inputs=tuple(inputs),
                        outputs=Path(scratch),
                        samples=SAMPLES,
                        warmup=WARMUP,
                        time_s=SECONDS,
                    )
                )
                medians[index].append(statistics.median(answer.samples_ms))
                progress((round_ * len(trials) + done + 1) / (rounds * len(trials)))
    return medians
