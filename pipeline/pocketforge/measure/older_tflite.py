"""The same .tflite file in tflite-runtime 2.14, which apps still ship: known to work, known not to, or not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.environments import TFLITE_RUNTIME
from pocketforge.errors import PocketforgeError, ToolFailed, ToolMissing, last_words
from pocketforge.measure.file_checks import Truth, check, check_limits, measure
from pocketforge.measure.on_host import run_file
from pocketforge.outcomes.reference import StepSequence
from pocketforge.outcomes.verify import FileCheck, Measured, named
from pocketforge.recipe.limits import Limits

NAME = f"{TFLITE_RUNTIME.name} {TFLITE_RUNTIME.version}"


@dataclass(frozen=True, slots=True)
class OlderRun:
    """What came of it.

    Attributes:
        state: In words; `works` where nothing is wrong.
        measured: What its outputs are worth; None where it did not run.
        checks: Those that were made, each with the runtime's name.
    """

    state: str
    measured: Measured | None = None
    checks: tuple[FileCheck, ...] = ()


def run_older(
    inputs: Mapping[str, Path],
    model: str,
    truth: Truth,
    limits: Limits,
    out: Path,
    sequence: StepSequence | None = None,
    *,
    required: bool,
) -> OlderRun:
    """Run the file `model` of the export's folder there. Raises ToolMissing where a recipe requires an environment that
    is not set up."""
    python = TFLITE_RUNTIME.python
    if python is None:
        if required:
            raise ToolMissing(
                f'verify.tflite_runtime = "require", but the environment of {NAME} is not set up',
                "pocketforge device setup tflite-runtime",
            )
        return OlderRun("not known: pocketforge device setup tflite-runtime")
    try:
        _, outputs = run_file(inputs, "tflite", model, out, sequence, str(python))
    except PocketforgeError as error:
        fault = _last_words(error)
        return OlderRun(f"does not work: {fault}", checks=(check(NAME, "loads and runs", fault, False),))
    measured = measure(outputs, truth)
    checks = check_limits(measured, limits)
    wrong = ", ".join(f"{each.name} {each.found}" for each in checks if not each.passed)
    return OlderRun(f"wrong: {wrong}" if wrong else "works", measured, tuple(named(each, NAME) for each in checks))


def _last_words(error: PocketforgeError) -> str:
    fault = last_words(error.message)
    if isinstance(error, ToolFailed) and error.signal and error.signal not in fault:
        return f"{error.signal}; last it said: {fault}"
    return fault
