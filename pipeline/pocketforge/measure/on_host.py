"""One exported file on every eval sample, on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host
from pocketforge.devices.base import FurtherSamples, RunAnswer, RunRequest
from pocketforge.devices.outputs import Output, stored_outputs
from pocketforge.errors import ToolFailed
from pocketforge.files import hash_file
from pocketforge.measure.dead_files import with_layer
from pocketforge.outcomes.elsewhere import fed, judged_outputs
from pocketforge.outcomes.reference import StepSequence
from pocketforge.registries import RUNTIMES


def run_file(
    inputs: Mapping[str, Path],
    runtime: str,
    name: str,
    out: Path,
    sequence: StepSequence | None = None,
    python: str | None = None,
    further: Sequence[FurtherSamples] = (),
) -> tuple[RunAnswer, tuple[Output, ...]]:
    """Run one file in a new process; the answer and its outputs as real values.

    inputs: "data", "export". name: of the file, in the export's folder. out: where the outputs go. sequence: of a model
    with states, which are fed back. python: another environment's interpreter. further: samples of other sizes.
    Raises ToolFailed, with the layer where the runtime's words tell one.
    """
    path = inputs["export"] / name
    request = RunRequest(
        session=RUNTIMES[runtime].session,
        model=path,
        sha256=hash_file(path),
        inputs=fed(inputs["export"], sample_paths(inputs["data"], "eval")),
        outputs=out,
        steps=sequence.steps if sequence else 0,
        states=tuple((each.input, each.output) for each in sequence.states) if sequence else (),
        further=tuple(further),
    )
    try:
        answer = host.run(request, python=python) if python else host.run(request)
    except ToolFailed as error:
        raise with_layer(error, inputs["export"]) from None
    return answer, stored_outputs(out, judged_outputs(inputs["export"], answer.outputs))
