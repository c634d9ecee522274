"""Stage `verify_device`: run the exact exported file on a device, and compare its outputs with the host's.

A device's kernels are others than the host's: what is right here may be wrong there. A file that does not load or run
fails the stage; one whose outputs differ is a result, which verdict.json names.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from pocketforge import events
from pocketforge.accuracy.judging import make_judge, with_names
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.outputs import Output, check_complete, named_outputs, stored_outputs
from pocketforge.errors import PluginFailed, PocketforgeError
from pocketforge.files import hash_file, resolver
from pocketforge.measure.file_checks import (
    Graph,
    Truth,
    check,
    check_limits,
    check_scored,
    measure,
    measure_parity,
    summary,
    truth_of,
)
from pocketforge.measure.kernels_judged import judged_on, limits_there, place_in_words, with_steps
from pocketforge.measure.quantized_graph import output_scales, read_graph
from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.elsewhere import elsewhere, fed
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck, Measured, Verdict, Verified, named, verdict
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.recipe.limits import verify_limits
from pocketforge.registries import DEVICES, RUNTIMES
from pocketforge.specs.verify_device import VerifyDeviceSpec


def run(inputs: Mapping[str, Path], spec: VerifyDeviceSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "reference" (where there is one), "export", "verify" (the host's), "quantize" (where a step
    quantized the model), an emulated device's or x86 host's "profile", a user's own "runner" and "runner_library" for a
    phone.

    Where the spec has limits of `verify`, the device judges each file of the target as the host does others, and the
    host's answers count where its kernels are exact. Writes verify.json (measured on the device, and against the host),
    verdict.json and outputs_0.npy …. Raises
    ToolFailed when the file does not load or run there, DeviceUnavailable, DeviceTimeout.
    """
    exported = files.read(inputs["export"], Exported)
    made = elsewhere(inputs["export"])
    gives = made.judged(exported.outputs) if made else exported.outputs
    host = stored_outputs(inputs["verify"] / "model", gives)
    reference = files.read(inputs["reference"], Reference) if "reference" in inputs else None
    steps = reference.sequence.steps if reference and reference.sequence else 1
    count = len(host[0].values) // steps
    samples = min(spec.eval_samples or count, count)
    rows = samples * steps
    where = place_in_words(inputs, spec.device)
    emit(0.0, f"{samples} samples on {where}")
    states = _states(host, reference) if reference else {}
    given = _Given(rows, steps, states)
    answer = _run_there(inputs, spec, exported.model_in(inputs["export"]), given, out)
    outputs = stored_outputs(out, gives)
    check_complete(outputs, host, rows, f"a device of kind {spec.device.via}")
    names = [tensor.name for tensor in (reference.outputs if reference else gives)]
    data = inputs["data"]
    judge = make_judge(
        spec.judged, names, spec.task, data, files.read(data, Sampled), resolver(inputs.get("data_root"))
    ).first(samples)
    in_pytorch = named_outputs(inputs["reference"], names) if reference else ()
    first = tuple(output.first(rows) for output in in_pytorch)
    truth = truth_of(first, judge, spec.task)
    host = _in_order([output.first(rows) for output in host], names)
    # Of a file that a device judges, what the host gave may be what its kernels made of it.
    is_held = spec.verify is None or not files.read(inputs["verify"], Verified).not_judged
    against_host = measure_parity(outputs, host, truth) if is_held else Measured(())
    if "quantize" in inputs:
        against_host = with_steps(against_host, output_scales(inputs["quantize"], names))
    limits = limits_there(inputs, made.scheme if made else spec.scheme, spec.limits)
    measured = measure(outputs, truth)
    checks = (
        _same_tensors("inputs", exported.inputs, answer.inputs),
        _same_tensors("outputs", exported.outputs, answer.outputs),
        *check_limits(against_host, limits),
        *check_scored(measured),
    )
    found = VerifiedThere(measured, against_host, limits, checks, answer.runtime, judged_on(inputs))
    if spec.verify is not None:
        found = _judge(inputs, spec, found, _Asked(exported, given, truth, outputs), out)
    files.write(out, found)
    passed, own = verdict(checks, f"on {where}, against the host: "), verdict(found.own_checks, f"on {where}: ")
    files.write(out, Verdict(passed.passed and own.passed, (*passed.reasons, *own.reasons)))
    emit(1.0, f"{summary(against_host)} against the host" if is_held else summary(measured))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A file that the device judges.

    Attributes:
        exported: It and those beside it.
        given: What it was given.
        truth: What its outputs are held against, without its quantized graph.
        outputs: Of the model file, there.
    """

    exported: Exported
    given: _Given
    truth: Truth
    outputs: Sequence[Output]


def _judge(
    inputs: Mapping[str, Path], spec: VerifyDeviceSpec, found: VerifiedThere, asked: _Asked, out: Path
) -> VerifiedThere:
    """Every file of the target as `verify` judges files on the host: against the model and the quantized graph."""
    assert spec.verify is not None, "asked where this device judges"
    names = [output.name for output in asked.truth.outputs]
    graph = read_graph(inputs["quantize"], names)
    rows = asked.given.rows
    graph = Graph(tuple(output.first(rows) for output in graph.outputs), graph.scales)
    truth = dataclasses.replace(asked.truth, graph=graph)
    limits = verify_limits(spec.scheme, spec.verify, with_names(spec.judged, names, spec.task), trained=spec.trained)
    judged: dict[str, Measured] = {}
    checks: list[FileCheck] = []
    for role, name in sorted(asked.exported.files.items()):
        outputs = asked.outputs
        if role != "model":
            _run_there(inputs, spec, inputs["export"] / name, asked.given, out / role)
            outputs = stored_outputs(out / role, asked.exported.outputs)
            check_complete(outputs, asked.outputs, rows, f"a device of kind {spec.device.via}")
        judged[role] = measure(outputs, truth)
        of_file = check_limits(judged[role], limits)
        checks += of_file if role == "model" else [named(each, role) for each in of_file]
    return dataclasses.replace(found, judged=judged, own_limits=limits, own_checks=tuple(checks))


@dataclass(frozen=True, slots=True)
class _Given:
    """What a device is given.

    Attributes:
        rows: So many of each input, from the first.
        steps: Rows of one sequence.
        states: Place of an input → what the host's file gave for the next step. A device's programs feed nothing back:
            each step there begins from the host's state, so that outputs are of the same inputs.
    """

    rows: int
    steps: int
    states: Mapping[int, Array]


def _states(host: Sequence[Output], reference: Reference) -> dict[int, Array]:
    if reference.sequence is None:
        return {}
    by_name = {output.name: output.values for output in host}
    names = [tensor.name for tensor in reference.outputs]
    return {each.input: by_name[names[each.output]] for each in reference.sequence.states}


def _run_there(inputs: Mapping[str, Path], spec: VerifyDeviceSpec, model: Path, given: _Given, out: Path) -> RunAnswer:
    """Run the file on the first samples; its outputs go into `out`."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        request = RunRequest(
            session=RUNTIMES[spec.runtime].session,
            model=model,
            sha256=hash_file(model),
            inputs=tuple(
                _first(path, given, number, Path(scratch))
                for number, path in enumerate(fed(inputs["export"], sample_paths(inputs["data"], "eval")))
            ),
            outputs=out,
            place=spec.device,
            files=inputs,
        )
        via, place = spec.device.via, DEVICES[spec.device.via].runner
        with DEVICES.calling(via, f"{place}:run", ours=(PocketforgeError, OSError)):
            answer = resolve_name(place).run(request)
    if not isinstance(answer, RunAnswer):
        raise PluginFailed(f"devices of kind {via}: {place}:run must give a RunAnswer, found a {type(answer).__name__}")
    return answer


def _in_order(outputs: Sequence[Output], names: Sequence[str]) -> tuple[Output, ...]:
    """In the model's order: the first one's classes are compared."""
    by_name = {output.name: output for output in outputs}
    return tuple(by_name[name] for name in names if name in by_name)


def _first(path: Path, given: _Given, number: int, scratch: Path) -> Path:
    whole = np.load(path, mmap_mode="r")
    if len(whole) == given.rows and number not in given.states:
        return path
    rows = np.array(whole[: given.rows])
    if number in given.states:
        for first in range(0, given.rows, given.steps):
            last = first + given.steps - 1
            rows[first + 1 : last + 1] = given.states[number][first:last]
    np.save(scratch / path.name, rows)
    return scratch / path.name


def _same_tensors(side: str, promised: Iterable[TensorSpec], seen: Iterable[TensorSpec]) -> FileCheck:
    """What the file takes or gives there, against what the sidecar promises."""
    wanted = _shapes(promised)
    found = _shapes(seen)
    return check(side, wanted, found, wanted == found)


def _shapes(tensors: Iterable[TensorSpec]) -> str:
    return "; ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
