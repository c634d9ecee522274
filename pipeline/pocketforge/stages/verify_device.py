"""Stage `verify_device`: run the exact exported file on a device, and compare its outputs with the host's.

A device's kernels are others than the host's: what is right here may be wrong there. A file that does not load or run
fails the stage; one whose outputs differ is a result, which verdict.json names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from pocketforge import events
from pocketforge.accuracy.judging import make_judge
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.outputs import Output, check_complete, named_outputs, stored_outputs
from pocketforge.errors import PluginFailed, PocketforgeError
from pocketforge.files import hash_file, resolver
from pocketforge.measure.file_checks import (
    check,
    check_limits,
    check_scored,
    measure,
    measure_parity,
    summary,
    truth_of,
)
from pocketforge.measure.kernels_judged import judged_on, limits_there, place_in_words, with_steps
from pocketforge.measure.quantized_graph import output_scales
from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.elsewhere import elsewhere, fed
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck, verdict
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.registries import DEVICES, RUNTIMES
from pocketforge.specs.verify_device import VerifyDeviceSpec


def run(inputs: Mapping[str, Path], spec: VerifyDeviceSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "reference" (where there is one), "export", "verify" (the host's), "quantize" (where a step
    quantized the model), an emulated device's or x86 host's "profile", a user's own "runner" and "runner_library" for a
    phone.

    Writes verify.json (measured on the device, and against the host), verdict.json and outputs_0.npy …. Raises
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
    answer = _run_there(inputs, spec, exported.model_in(inputs["export"]), _Given(rows, steps, states), out)
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
    against_host = measure_parity(outputs, host, truth)
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
    files.write(out, VerifiedThere(measured, against_host, limits, checks, answer.runtime, judged_on(inputs)))
    files.write(out, verdict(checks, f"on {where}, against the host: "))
    emit(1.0, f"{summary(against_host)} against the host")


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
