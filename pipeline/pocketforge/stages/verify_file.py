"""Stage `verify_file`: run a model file made elsewhere in a new process, on real samples, and judge what it answers.

As `verify`, of a file that no step of ours wrote: it has no quantized graph of ours to be held against, and may have no
reference either. Then its targets alone say what it is worth, and that it answers at all is a check of its own.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pocketforge import events
from pocketforge.accuracy.fits import check_targets
from pocketforge.accuracy.judging import make_judge, with_names
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.outputs import Output, named_outputs
from pocketforge.files import resolver
from pocketforge.measure.again import check_again, idle_inputs, write_again
from pocketforge.measure.alive import check_alive, check_compared, dead_channels
from pocketforge.measure.file_checks import (
    Truth,
    check_contract,
    check_limits,
    empty_drops,
    measure,
    summary,
    truth_of,
)
from pocketforge.measure.older_tflite import NAME, run_older
from pocketforge.measure.on_host import run_file
from pocketforge.measure.saturation import note_of_elsewhere
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.elsewhere import Elsewhere, fed
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import Measured, Verified, verdict
from pocketforge.recipe.limits import Limits, verify_limits
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.specs.verify_file import VerifyFileSpec


def run(inputs: Mapping[str, Path], spec: VerifyFileSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "export" (stage adopt's folder), "reference" (where there is something to hold the file against),
    "data_root" (the recipe's folder, for metrics of the user's).

    Writes verify.json, verdict.json and the file's outputs (outputs_0.npy …). Raises ToolFailed when the file does not
    load or run, ModelError where its outputs do not fit targets or labels.
    """
    exported, made = files.read(inputs["export"], Exported), files.read(inputs["export"], Elsewhere)
    truth = _truth(inputs, spec, made.answers)
    limits = _limits(spec, made, truth)
    model = exported.files["model"]
    emit(0.0, f"running {made.file}")
    again = write_again(fed(inputs["export"], sample_paths(inputs["data"], "eval")), out / "again")
    answer, answered = run_file(inputs, spec.runtime, model, out / "model", further=again.samples)
    if not truth.outputs:
        values = {each.name: each.values for each in answered}
        check_targets(spec.task, values, truth.judge, files.read(inputs["data"], Sampled), _whose(made, spec.task))
    measured = {"model": measure(answered, truth)}
    seen = dataclasses.replace(
        answer,
        inputs=_with_names(answer.inputs, exported.inputs),
        outputs=_with_names(answer.outputs, exported.outputs),
    )
    judged = [each.name for each in truth.judge.outputs if each.metric_names]
    checks = [
        *check_contract(seen, exported),
        *check_alive(answered, judged, truth.of_classes, alone=not truth.outputs),
        *check_again(again, answered, answer.outputs),
        *check_compared(answered, truth.outputs),
        *check_limits(measured["model"], limits),
    ]
    runtimes = {answer.runtime: "works"}
    if spec.legacy:
        emit(0.8, "running it in tflite-runtime")
        required = spec.limits.tflite_runtime == "require"
        older = run_older(inputs, model, truth, limits, out / "legacy", required=required)
        runtimes[NAME] = older.state
        measured |= {"legacy": older.measured} if older.measured else {}
        checks += older.checks if required else ()
    outputs, told = made.judged(answer.outputs), tuple(_notes(made, truth, limits, answered))
    told += tuple(idle_inputs(again, answered, answer.outputs, exported.inputs))
    told += note_of_elsewhere(inputs["export"] / model, spec.runtime, made.scheme)
    shutil.rmtree(out / "again")
    verified = Verified(measured, runtimes, limits, tuple(checks), kernels_here(), outputs, warnings=told)
    files.write(out, verified)
    passed = verdict(checks)
    files.write(out, passed)
    emit(1.0, _summary(measured["model"]) + (f", {len(passed.reasons)} checks failed" if passed.reasons else ""))


def _whose(made: Elsewhere, task: str) -> str:
    """For errors: a task is about the first output."""
    if len(made.answers) == 1 or task == "outputs":
        return made.file
    return f"output {made.answers[0]!r} of {made.file} (the first of {len(made.answers)}; [[output]] says what each is)"


def _summary(measured: Measured) -> str:
    """How near it is to what it is held against, else how good by its targets."""
    if measured.sqnr_db is None and measured.accuracy:
        name, value = next(iter(measured.accuracy.items()))
        return f"{name} {value:.4f}"
    return summary(measured)


def _truth(inputs: Mapping[str, Path], spec: VerifyFileSpec, answers: Sequence[str]) -> Truth:
    """What the file's outputs are held against. answers: names of its outputs, in its order."""
    data, names = inputs["data"], list(answers)
    if "reference" in inputs:
        names = [tensor.name for tensor in files.read(inputs["reference"], Reference).outputs]
    judge = make_judge(
        spec.judged, names, spec.task, data, files.read(data, Sampled), resolver(inputs.get("data_root"))
    )
    return truth_of(named_outputs(inputs["reference"], names) if "reference" in inputs else (), judge, spec.task)


def _limits(spec: VerifyFileSpec, made: Elsewhere, truth: Truth) -> Limits:
    """None where nothing is there to hold the outputs against; none on a quantized graph, which nobody has."""
    if not truth.outputs:
        return Limits({})
    names = [each.name for each in truth.outputs]
    limits = verify_limits(made.scheme, spec.limits, with_names(spec.judged, names, spec.task))
    common = {name: value for name, value in limits.common.items() if "graph" not in name}
    return Limits(common, limits.by_output)


def _with_names(seen: Sequence[TensorSpec], promised: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Tensors of a format without names (.pte) by those that stage adopt gave them."""
    if len(seen) != len(promised):
        return tuple(seen)
    return tuple(
        each if each.name else dataclasses.replace(each, name=known.name)
        for each, known in zip(seen, promised, strict=True)
    )


def _notes(made: Elsewhere, truth: Truth, limits: Limits, answered: Sequence[Output]) -> Iterator[str]:
    """What was not checked of it, and what a user should know of its answers."""
    if truth.outputs and not made.against:
        yield "what it is held against is this very file, byte for byte: its targets alone say what it is worth"
    if not truth.outputs:
        yield "made elsewhere, and held against no other answers: its targets alone say what it is worth"
        yield from dead_channels(answered)
    if SCHEMES[made.scheme].computes_in_integers:
        yield (
            "made elsewhere: the graph that it was quantized from is not known, so it was not held against it; kernels "
            "that compute it wrong show in its figures alone"
        )
    yield from empty_drops(truth, limits)
