"""The same file in what an app loads it with. MediaPipe Tasks, fed pictures or sound as an app has them, and ONNX
Runtime's mobile usability checker; browsers are in web_consumers.py."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from pocketforge.devices.environments import MEDIAPIPE
from pocketforge.errors import ToolMissing, last_words
from pocketforge.measure.consumed_boxes import box_checks
from pocketforge.measure.file_checks import check
from pocketforge.metrics import Array
from pocketforge.outcomes.verify import FileCheck, Measured
from pocketforge.recipe.consumers import TASKS

_PROGRAM = Path(__file__).parents[1] / "runtimes" / "consumers" / "mediapipe_tasks.py"
_CHECKER = "onnxruntime.tools.check_onnx_model_mobile_usability"
_PROVIDERS = ("NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram")
# Of one task: seconds for the samples of a phone's model, and a task that waits for ever has been seen.
TIME_LIMIT_S = 600
# A task feeds the same runtime: it differs by how pixels become floats, in the last bits.
_MOST_DIFFERENCE = 1e-3


# Role of the file where pictures have their size from MediaPipe.
RESIZED = "mediapipe_resize"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the file answered here, in its own runtime.

    Attributes:
        role: Of its output.
        values: One row a sample: scores of classes, or embeddings; of masks [n, height, width, classes]; of boxes
            [n, boxes, 6]: left, top, right, bottom as shares, class, score, and NaN behind those that there are.
        labels: Names of the classes; empty where nobody gives them.
        rate_hz: Of the sound that it is fed; 0 of others.
        kind: Of what it is fed.
    """

    role: str
    values: Array
    labels: tuple[str, ...] = ()
    rate_hz: int = 0
    kind: Literal["image", "sound", "text"] = "image"


@dataclass(frozen=True, slots=True)
class Consumed:
    """What came of it.

    Attributes:
        name: The task and its version.
        state: In words; `works` where nothing is wrong.
        checks: Those that were made, each with the task's name.
        measured: Role → what outputs there are worth, where they were held against PyTorch's.
        notes: What else it told, in words.
    """

    name: str
    state: str
    checks: tuple[FileCheck, ...]
    measured: Mapping[str, Measured] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def try_mediapipe(model: Path, samples: Path, answers: Answers) -> Consumed:
    """Run a task on the file. samples: .npy of uint8 [n, height, width, 3], or of float32 sound [n, samples]; .json of
    texts.

    Raises ToolMissing where the environment is not set up.
    """
    python = MEDIAPIPE.python
    if python is None:
        raise ToolMissing(
            f'consumers = ["mediapipe"], but the environment of MediaPipe {MEDIAPIPE.version} is not set up',
            "pocketforge device setup mediapipe",
        )
    task = TASKS[answers.kind][answers.role]
    name = f"MediaPipe {task} {MEDIAPIPE.version}"
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        order: dict[str, object] = {"task": task, "model": model, "samples": samples, "rate_hz": answers.rate_hz}
        if answers.role == "boxes":
            order |= {"rows": answers.values.shape[1], "labels": answers.labels}
        fault = _run(python, order, Path(scratch))
        if fault:
            return Consumed(name, f"does not work: {fault}", (check(name, "opens and runs it", fault, False),))
        found = np.load(Path(scratch, "outputs.npy"))
        labels = tuple(json.loads(Path(scratch, "answer.json").read_text(encoding="utf-8"))["labels"])
    if answers.role == "boxes":
        checks = tuple(box_checks(name, answers.values, found, answers.labels, np.load(samples, mmap_mode="r").shape))
    else:
        checks = tuple(_checks(name, answers, found, labels))
    if answers.kind == "text" and not all(each.passed for each in checks):
        checks = (*checks, _unlike(name, answers, found, samples))
    wrong = ", ".join(f"{each.name.removeprefix(name).strip()} {each.found}" for each in checks if not each.passed)
    return Consumed(name, f"wrong: {wrong}" if wrong else "works", checks)


def resize_words(model: Measured, resized: Measured) -> str:
    """What pictures cost that an app hands to MediaPipe as they are, on a CPU."""
    figures = [
        f"{name} {value:.4g}, with the recipe's own {model.accuracy[name]:.4g}"
        for name, value in resized.accuracy.items()
        if name in model.accuracy
    ]
    if resized.argmax_agreement is not None:
        figures.append(f"top-1 of the model in PyTorch for {resized.argmax_agreement:.1%} of the samples")
    told = "; ".join(figures) or f"{resized.sqnr_db or 0.0:.1f} dB to the model in PyTorch"
    return f"whole pictures handed to MediaPipe, which resizes them otherwise (on a CPU from the corner): {told}"


def _run(python: Path, asked: Mapping[str, object], scratch: Path) -> str:
    """One task in a process of its own. Why it did not work, in its last words; empty where it did."""
    order, answer = scratch / "order.json", scratch / "answer.json"
    content = {**asked, "outputs": scratch / "outputs.npy"}
    order.write_text(json.dumps(content, default=os.fspath), encoding="utf-8")
    fault, _ = _ended([os.fspath(each) for each in (python, "-I", _PROGRAM, order, answer)], scratch)
    return fault or ("" if answer.exists() else "it wrote no answer")


def _ended(argv: Sequence[str], folder: Path) -> tuple[str, str]:
    """Why the program did not work, in its last words, and all that it said on stderr; no fault where it did."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {TIME_LIMIT_S} s", ""
    if done.returncode == 0:
        return "", done.stderr
    ended = f"it ended with signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return last_words(done.stderr) or ended, done.stderr


def _checks(name: str, answers: Answers, found: Array, labels: tuple[str, ...]) -> list[FileCheck]:
    wanted = np.asarray(answers.values, np.float32)
    if answers.role == "segmentation":
        # One row a pixel; behind the shares the task's own category.
        classes = wanted.shape[-1]
        wanted = wanted.reshape(-1, classes)
        given = found.reshape(-1, found.shape[-1])
        found, categories = given[:, :classes], given[:, classes:].astype(np.int64)
        if found.shape != wanted.shape or categories.shape != (len(wanted), 1):
            return [check(f"{name} answers", f"{classes} masks and a category", f"{given.shape[1]} masks", False)]
    if found.shape != wanted.shape:
        return [check(f"{name} answers", str(list(wanted.shape)), str(list(found.shape)), False)]
    difference = float(np.abs(found - wanted).max()) if found.size else 0.0
    checks = [
        check(
            f"{name} values", f"at most {_MOST_DIFFERENCE:g} off", f"{difference:.3g}", difference <= _MOST_DIFFERENCE
        )
    ]
    if answers.role not in ("logits", "segmentation"):
        return checks
    # Of equal scores any may be first.
    of, what, chosen = ("samples", "top-1", found.argmax(1))
    if answers.role == "segmentation":
        of, what, chosen = ("pixels", "category", categories[:, 0].clip(0, wanted.shape[1] - 1))
    first = wanted[np.arange(len(found)), chosen]
    share = float((first >= wanted.max(1)).mean())
    checks.append(check(f"{name} {what}", "the file's own", f"{share:.1%} of {len(found)} {of}", share == 1.0))
    if answers.labels:
        same = labels == answers.labels
        unlike = "the labels" if same else f"{', '.join(labels[:5])} …"
        checks.append(check(f"{name} labels", "the labels", unlike, same))
    return checks


def _unlike(name: str, answers: Answers, found: Array, samples: Path) -> FileCheck:
    """Which texts the task answers otherwise: where its tokenizer gives other ids, a text's values are others."""
    texts = json.loads(samples.read_text(encoding="utf-8"))
    wanted = np.asarray(answers.values, np.float32)
    far = np.zeros(0, np.int64)
    if found.shape == wanted.shape:
        far = np.flatnonzero(np.abs(found - wanted).reshape(len(texts), -1).max(1) > _MOST_DIFFERENCE)
    first = f", the first {texts[far[0]][:40]!r}" if len(far) else ""
    told = f"{len(far)} of {len(texts)} otherwise{first} (its tokenizer lowers ASCII letters only and keeps accents)"
    return check(f"{name} texts", "answered as the file answers", told, not len(far))


def ask_mobile_checker(model: Path) -> Consumed:
    """What ONNX Runtime's usability checker says of a .onnx file (of others it says nothing: it fails on .ort).

    It recommends and refuses nothing: what is checked is that it reads the file and has a word on each provider.
    """
    name = f"onnxruntime {importlib.metadata.version('onnxruntime')} mobile usability checker"
    argv = [sys.executable, "-I", "-m", _CHECKER, "--log_level", "info", os.fspath(model.resolve())]
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        fault, said = _ended(argv, Path(scratch))
    told = dict(re.findall(r"Model should perform well with (.+?) as is: (\w+)", said))
    missing = ", ".join(each for each in _PROVIDERS if each not in told)
    fault = fault or (f"it has no word on {missing}" if missing else "")
    if fault:
        return Consumed(name, f"does not work: {fault}", (check(name, "reads it", fault, False),))
    words = ", ".join(f"{provider} {told[provider]}" for provider in _PROVIDERS)
    checks = (check(name, "a word on each provider", words, True),)
    return Consumed(name, "works", checks, notes=(f"{name}, whether a provider does well with the file: {words}",))
