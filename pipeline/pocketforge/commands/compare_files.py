"""What `pocketforge compare-files` finds: two model files on the same samples, as far as they differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pocketforge import events
from pocketforge.commands.gate_file import FileRequest, recipe_for
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunRequest
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.measure.ab import MAX_BLOCKS, MIN_BLOCKS
from pocketforge.measure.turns import SAMPLES, SECONDS, WARMUP, InTurns, time_two
from pocketforge.measure.two_files import ComparedFile, ComparedFiles
from pocketforge.outcomes.elsewhere import Elsewhere, fed
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.verify import Verdict, Verified
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Emulated, Lane
from pocketforge.registries import RUNTIMES
from pocketforge.results.emulated import counts_of
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.run.part import run_part
from pocketforge.run.walk import Outcome
from pocketforge.runtimes.describe import describe


def compare_files(
    request: FileRequest, other: Path, cache: Path, *, blocks: int, emit: events.Emit, say: events.Say
) -> ComparedFiles:
    """request: of the first file; its devices are emulated profiles, to count on. blocks: of A B B A on this host, 0
    for none.

    Raises RecipeError, ModelError (a file does not fit the samples or the other), StageFailed, DeviceError.
    """
    if blocks and not MIN_BLOCKS <= blocks <= MAX_BLOCKS:
        raise RecipeError(f"--blocks: wanted {MIN_BLOCKS} to {MAX_BLOCKS}, or 0 for no times, found {blocks}")
    recipe = recipe_for(dataclasses.replace(request, reference=str(request.file)), other)
    plan = make_plan(recipe, gather(recipe, cache))
    counts = [on.count for lane in plan.lanes for on in lane.on.values() if isinstance(on, Emulated)]
    outcome = run_part(plan, [*(lane.verify for lane in plan.lanes), *counts], cache, "compare", emit)
    first, second = plan.lanes
    in_turns = _timed(first, second, outcome, blocks, say) if blocks else None
    medians_ms = in_turns.median_ms if in_turns else (None, None)
    verified, verdict = outcome.result(second.verify, Verified), outcome.result(second.verify, Verdict)
    assert verified is not None and verdict is not None, "run_part raises where a step has no result"
    ops = [describe(_model(lane, outcome)).ops for lane in plan.lanes]
    measured = verified.files["model"]
    return ComparedFiles(
        _compared(first, outcome, medians_ms[0]),
        _compared(second, outcome, medians_ms[1]),
        measured.samples,
        measured.outputs,
        measured.argmax_agreement,
        verdict.reasons,
        {
            name: (ops[0].get(name, 0), ops[1].get(name, 0))
            for name in sorted({*ops[0], *ops[1]})
            if ops[0].get(name) != ops[1].get(name)
        },
        in_turns,
    )


def _model(lane: Lane, outcome: Outcome) -> Path:
    exported = outcome.result(lane.export, Exported)
    assert exported is not None, "run_part raises where a step has no result"
    return exported.model_in(outcome.entries[lane.export].files)


def _compared(lane: Lane, outcome: Outcome, latency_ms: float | None) -> ComparedFile:
    made, verified = outcome.result(lane.export, Elsewhere), outcome.result(lane.verify, Verified)
    assert made is not None and verified is not None, "run_part raises where a step has no result"
    described = describe(_model(lane, outcome))
    counted = {name: counts_of(on, outcome) for name, on in lane.on.items()}
    return ComparedFile(
        made.file,
        lane.target.runtime,
        made.scheme,
        described.sha256,
        described.size_bytes,
        described.gzip_bytes,
        described.parameters,
        verified.files["model"].accuracy,
        {name: counts.instructions for name, counts in counted.items() if counts},
        latency_ms,
    )


def _timed(first: Lane, second: Lane, outcome: Outcome, blocks: int, say: events.Say) -> InTurns:
    with hold_of_machine(HOST_BENCHMARK, lambda holder: say(f"waiting: {holder} benchmarks here")):
        say(f"timing both in turns, {blocks} blocks")
        return time_two(_request(first, outcome), _request(second, outcome), blocks)


def _request(lane: Lane, outcome: Outcome) -> RunRequest:
    adopted, model = outcome.entries[lane.export], _model(lane, outcome)
    return RunRequest(
        session=RUNTIMES[lane.target.runtime].session,
        model=model,
        sha256=adopted.hashes[model.name],
        inputs=fed(adopted.files, sample_paths(outcome.entries[lane.data].files, "eval")),
        outputs=adopted.files,  # nothing is written when timing
        samples=SAMPLES,
        warmup=WARMUP,
        time_s=SECONDS,
    )
