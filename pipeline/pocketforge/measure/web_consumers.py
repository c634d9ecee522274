"""The same file in what a web page loads it with, LiteRT.js or onnxruntime-web, in a headless Chromium."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pocketforge.devices.answers import NativeTensor
from pocketforge.devices.base import RunAnswer
from pocketforge.devices.emulator.arrays import read_outputs, write_inputs
from pocketforge.devices.outputs import Output, stored_outputs
from pocketforge.devices.web import WEB
from pocketforge.files import hash_file
from pocketforge.measure.browser import Page, PageAnswer, run_pages
from pocketforge.measure.consumers import Consumed
from pocketforge.measure.file_checks import Truth, check, check_limits, measure
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck, Measured, named
from pocketforge.recipe.limits import Limits

# Consumer → the package of npm that it is, and its name in words.
PACKAGES = {"litert_js": ("@litertjs/core", "LiteRT.js"), "onnxruntime_web": ("onnxruntime-web", "onnxruntime-web")}
# A float file's answers differ by the order of sums alone.
_MOST_DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True)
class Ran:
    """A file as it ran here, in its own runtime, on every eval sample.

    Attributes:
        model: The file.
        samples: One .npy a model input.
        answer: What the runtime said of it.
        outputs: Folder with what it gave.
        is_float: Whether no part of it is in fewer bits: else its levels hang on a machine's kernels.
    """

    model: Path
    samples: Sequence[Path]
    answer: RunAnswer
    outputs: Path
    is_float: bool


def name_of(consumer: str) -> str:
    """In words, with its version."""
    package, words = PACKAGES[consumer]
    return f"{words} {WEB.packages[package]}"


def try_in_browser(consumer: str, files: Mapping[str, Ran], truth: Truth, limits: Limits) -> Consumed:
    """Run the files there on the same samples, and hold what each gives against what it gave here, and against the
    target's own limits: kernels of this machine need not be those of WebAssembly, and levels hang on them.

    files: by role. Raises ToolMissing, ToolFailed or DeviceTimeout where no browser runs.
    """
    name = name_of(consumer)
    checks: list[FileCheck] = []
    measured: dict[str, Measured] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder:
        scratch = {role: Path(folder, role) for role in files}
        for place in scratch.values():
            place.mkdir()
        pages = [page_of(consumer, ran, scratch[role]) for role, ran in files.items()]
        for (role, ran), told in zip(files.items(), run_pages(pages), strict=True):
            whose = name if role == "model" else f"{name}, {role}"
            found = list(_asked(told.refused))
            outputs = () if told.fault else _read(told, ran, scratch[role], found)
            if told.fault:
                found.append(check("opens and runs it", "its outputs", told.fault, False))
            elif outputs:
                far, of_values = compared(outputs, stored_outputs(ran.outputs, ran.answer.outputs))
                found += of_values if ran.is_float else []
                notes += [f"{whose}: {far} from what the file gives here"] if far and not ran.is_float else []
                role_there = consumer if role == "model" else f"{consumer}_{role}"
                measured[role_there] = measure(outputs, truth)
                found += check_limits(measured[role_there], limits)
            checks += [named(each, whose) for each in found]
    wrong = ", ".join(f"{each.name.removeprefix(f'{name}: ')} {each.found}" for each in checks if not each.passed)
    does = "does not work" if not measured else "wrong"
    return Consumed(name, f"{does}: {wrong}" if wrong else "works", tuple(checks), measured, tuple(notes))


def _read(told: PageAnswer, ran: Ran, scratch: Path, checks: list[FileCheck]) -> tuple[Output, ...]:
    """The outputs that came back; none where they are not those of the file, of which checks gets the fault."""
    found = _as_here(told.answer["outputs"], ran.answer.outputs)
    checks += _contract(found, ran)
    if not all(each.passed for each in checks):
        return ()
    given = [cast(NativeTensor, {**each, "file": str(scratch / each["file"])}) for each in found]
    read_outputs(given, scratch / "outputs", len(np.load(ran.samples[0], mmap_mode="r")))
    return stored_outputs(scratch / "outputs", ran.answer.outputs)


def page_of(consumer: str, ran: Ran, scratch: Path) -> Page:
    """The page that runs it. scratch: gets what is fed and, in output_0.bin …, what comes back.

    Raises ToolFailed where the samples do not fit the file.
    """
    samples = [np.load(path, mmap_mode="r") for path in ran.samples]
    taken = [_as_fed(tensor, array.shape) for tensor, array in zip(ran.answer.inputs, samples, strict=True)]
    fed = write_inputs(taken, ran.samples, scratch, model=ran.model.name)
    inputs = [
        {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape, "samples": f"/samples/{path.name}"}
        for tensor, path in zip(taken, fed, strict=True)
    ]
    argument = {
        "consumer": consumer, "model": f"/{ran.model.name}", "sha256": hash_file(ran.model), "inputs": inputs,
        "samples": len(samples[0]),
    }  # fmt: skip
    mounts = {f"/{ran.model.name}": ran.model, "/samples": scratch}
    return Page("/page/run_file.mjs", argument, mounts, scratch)


def _as_fed(tensor: TensorSpec, samples: Sequence[int]) -> TensorSpec:
    """With the samples' own lengths where the file leaves some open."""
    if -1 not in tensor.shape:
        return tensor
    lengths = (1, *samples[1:])
    shape = tuple(own if length < 0 else length for length, own in zip(tensor.shape, lengths, strict=True))
    return dataclasses.replace(tensor, shape=shape)


def _as_here(there: Sequence[Mapping[str, Any]], here: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """The outputs in the order that they have here, by their names; as they come where these are others."""
    told = [{**each, "file": f"output_{number}.bin"} for number, each in enumerate(there)]
    by_name = {each["name"]: each for each in told}
    return [by_name[tensor.name] for tensor in here] if {t.name for t in here} == set(by_name) else told


def _asked(refused: Sequence[str]) -> list[FileCheck]:
    addresses = ", ".join(dict.fromkeys(refused)) or "nothing"
    return [check("asks for", "nothing outside the page's own server", addresses, not refused)]


def _contract(found: Sequence[Mapping[str, Any]], ran: Ran) -> list[FileCheck]:
    shapes = [np.load(path, mmap_mode="r").shape for path in sorted(ran.outputs.glob("outputs_*.npy"), key=_number)]
    wanted = "; ".join(
        f"{tensor.dtype} {list(_whole(tensor, shape))}"
        for tensor, shape in zip(ran.answer.outputs, shapes, strict=True)
    )
    given = "; ".join(f"{each['dtype']} {list(each['shape'])}" for each in found)
    return [check("outputs", wanted, given, wanted == given)]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _whole(tensor: TensorSpec, stored: Sequence[int]) -> tuple[int, ...]:
    """The shape of one answer, of what is stored of all: without the batch, where that is the first axis."""
    one = tuple(stored[1:])
    return one if len(one) == len(tensor.shape) else (1, *one)


def compared(there: Sequence[Output], here: Sequence[Output]) -> tuple[str, list[FileCheck]]:
    """How far the outputs are from each other, in words (empty: equal to the bit), and a check of each."""
    checks, far = [], []
    for one, other in zip(there, here, strict=True):
        if np.array_equal(one.values, other.values, equal_nan=other.values.dtype.kind == "f"):
            checks.append(check(f"values of {other.name}", "the file's own", "equal to the bit", True))
            continue
        if other.is_exact:
            words = f"{float(np.mean(one.values != other.values)):.2%} of {other.name} other"
            checks.append(check(f"values of {other.name}", "the file's own", words, False))
        else:
            wanted, found = (np.asarray(each.values, np.float64) for each in (other, one))
            most = _MOST_DIFFERENCE * max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
            same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
            with np.errstate(invalid="ignore"):
                apart = np.where(same, 0.0, np.abs(found - wanted))
            # Not a number on one side alone is far from all: it is the largest difference then, and fails.
            difference = float(apart.max())
            words = f"{other.name} up to {difference:.3g}"
            checks.append(check(f"values of {other.name}", f"at most {most:.3g} off", words, difference <= most))
        far.append(words)
    return ", ".join(far), checks
