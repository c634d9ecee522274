"""The host: a model file runs in a new interpreter that loads only its runtime (and NumPy, to carry arrays)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import DeviceTimeout, ToolFailed

RUNNER = Path(__file__).parents[1] / "runtimes" / "sessions" / "runner.py"
TIMEOUT_S = 1800


def run(
    request: RunRequest, *, python: str = sys.executable, timeout_s: float = TIMEOUT_S, quiet: bool = False
) -> RunAnswer:
    """Run or time one file; `python` may be another environment's interpreter. quiet: what the runtime says on the way
    is left out; an error has it all the same.

    Raises ToolFailed with the runtime's own words when the file does not load or run, DeviceTimeout.
    """
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        order, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        order.write_text(
            json.dumps(
                {
                    "session": request.session,
                    "model": os.fspath(request.model),
                    "sha256": request.sha256,
                    "inputs": [os.fspath(p) for p in request.inputs],
                    "outputs": os.fspath(request.outputs),
                    "threads": request.threads,
                    "samples": request.samples,
                    "warmup": request.warmup,
                    "time_s": request.time_s,
                }
            ),
            encoding="utf-8",
        )
        # -I: neither the user's folder nor PYTHONPATH decides what the runtime sees.
        argv = [python, "-I", os.fspath(RUNNER), os.fspath(order), os.fspath(answer)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(request.threads), "TF_CPP_MIN_LOG_LEVEL": "2"}
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=timeout_s, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeviceTimeout(
                f"the host did not finish running {request.model.name} in {timeout_s:.0f} s",
                "use fewer eval_samples, or a smaller model",
            ) from None
        if not quiet:
            sys.stderr.write(done.stderr)
        if done.returncode != 0 or not answer.exists():
            raise ToolFailed(
                [f"the {request.session} runtime on {request.model.name}"], done.returncode or 1, done.stderr
            )
        found = json.loads(answer.read_text(encoding="utf-8"))
    return RunAnswer(
        inputs=tuple(found["inputs"]),
        outputs=tuple(found["outputs"]),
        load_ms=found["load_ms"],
        peak_rss_bytes=found["peak_rss_bytes"],
        loaded_rss_bytes=found["loaded_rss_bytes"],
        samples_ms=tuple(found["samples_ms"]),
        runtime=found["runtime"],
        modules=tuple(found["modules"]),
        cpus=tuple(found["cpus"]),
    )
