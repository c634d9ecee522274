"""The host: a model file runs in a new interpreter that loads only its runtime (and NumPy, to carry arrays)."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.devices import watched
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import DeviceTimeout, ToolFailed, ToolMissing
from pocketforge.outcomes.tensors import as_told
from pocketforge.registries import runtime_of

RUNNER = Path(__file__).parents[1] / "runtimes" / "sessions" / "runner.py"
TIMEOUT_S = 1800
# What names of variables begin with that say what qemu emulates, or which kernels libraries take: OpenBLAS (NumPy's),
# NumPy itself, MKL, oneDNN, PyTorch, glibc.
OF_THIS_PROCESSOR = (
    "QEMU_", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "GLIBC_TUNABLES",
)  # fmt: skip


def session_file(session: str) -> str:
    """What the runner loads for a RuntimeInfo's `session` or its plain one: a file beside itself by its name, or the
    path of a package's module. Raises ToolMissing for a module that is nowhere.
    """
    if "." not in session:
        return session
    try:
        spec = importlib.util.find_spec(session)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ToolMissing(f"there is no module {session}, which opens model files", "install its package again")
    return spec.origin


@dataclass(frozen=True, slots=True)
class Under:
    """What runs the interpreter in this machine's place.

    Attributes:
        start: What the command line begins with, an emulator of this machine's kind of processor.
        where: What errors call it.
        memory_limit_bytes: Of all that it takes; 0 is no limit.
    """

    start: tuple[str, ...] = ()
    where: str = "the host"
    memory_limit_bytes: int = 0


def run(
    request: RunRequest,
    *,
    python: str = sys.executable,
    timeout_s: float = TIMEOUT_S,
    quiet: bool = False,
    under: Under | None = None,
) -> RunAnswer:
    """Run or time one file; `python` may be another environment's interpreter. quiet: what the runtime says on the way
    is left out; an error has it all the same. under: what plays another processor; none does when absent.

    Raises ToolFailed with the runtime's own words when the file does not load or run, DeviceTimeout, DeviceError (too
    much memory).
    """
    under = under or Under()
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        order, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        order.write_text(json.dumps(_order(request), default=os.fspath), encoding="utf-8")
        # -I: neither the user's folder nor PYTHONPATH decides what the runtime sees.
        argv = [*under.start, python, "-I", os.fspath(RUNNER), os.fspath(order), os.fspath(answer)]
        inherited = environment_of_another_processor() if under.start else dict(os.environ)
        environment = {**inherited, "OMP_NUM_THREADS": str(request.threads), "TF_CPP_MIN_LOG_LEVEL": "2"}
        if under.memory_limit_bytes:
            code, stderr = _watched(argv, environment, request.model.name, under, timeout_s)
        else:
            code, stderr = _plain(argv, environment, request.model.name, under.where, timeout_s)
        if not quiet:
            sys.stderr.write(stderr)
        if code != 0 or not answer.exists():
            on = f" on {under.where}" if under.start else ""
            runtime = request.session if "." not in request.session else runtime_of(request.session)
            what = f"the {runtime} runtime on {request.model.name}{on}"
            raise ToolFailed([what], code or 1, _without_frames(stderr))
        return _answer(json.loads(answer.read_text(encoding="utf-8")))


def environment_of_another_processor() -> dict[str, str]:
    """This process's, without what names kernels for the processor here, or another to emulate.

    NumPy's OpenBLAS with OPENBLAS_CORETYPE=Haswell ends with an illegal instruction on an emulated Nehalem.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(OF_THIS_PROCESSOR)}


def _order(request: RunRequest) -> dict[str, object]:
    """What the runner reads: every field but where it runs."""
    content = dataclasses.asdict(request)
    del content["place"], content["files"]
    return {**content, "session": session_file(request.session)}


def _answer(content: dict[str, Any]) -> RunAnswer:
    """The runner's keys are the answer's fields."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
    sides = {side: tuple(as_told(tensor) for tensor in fields[side]) for side in ("inputs", "outputs")}
    return RunAnswer(**{**fields, **sides})


def _without_frames(stderr: str) -> str:
    """What the runtime said, without the Python frames that its error came through: a user is shown the last lines."""
    outside: list[str] = []
    inside = False
    for line in stderr.splitlines():
        inside = line.startswith("Traceback") or (inside and line.startswith(" "))
        if not inside and line != (outside[-1] if outside else None):
            outside.append(line)
    return "\n".join(outside)


def _plain(argv: list[str], environment: dict[str, str], what: str, where: str, timeout_s: float) -> tuple[int, str]:
    """The exit code and stderr."""
    try:
        done = complete(argv, environment, timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceTimeout(
            f"{where} did not finish running {what} in {timeout_s:.0f} s", "use fewer eval_samples, or a smaller model"
        ) from None
    return done.returncode, done.stderr


def complete(argv: list[str], environment: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """The runner, from its start to its end. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        argv, capture_output=True, text=True, errors="replace", timeout=timeout_s, env=environment, check=False
    )


def _watched(
    argv: list[str], environment: dict[str, str], what: str, under: Under, timeout_s: float
) -> tuple[int, str]:
    """As `_plain`, with a limit on memory: what a benchmark has no use for."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        watched.wait(process, what, under.where, timeout_s=timeout_s, limit_bytes=under.memory_limit_bytes)
        stderr.seek(0)
        lines = stderr.read().decode("utf-8", "replace").splitlines(keepends=True)
    # qemu says of each start what its processor lacks.
    return process.returncode, "".join(line for line in lines if not line.startswith("qemu-x86_64: warning:"))
