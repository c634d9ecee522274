"""A file that runs in a fork of a process which holds its runtime answers and ends as in a new interpreter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_files import linear_onnx, linear_tflite
from shared_store import DigitsParts
from warm_runtimes import PROGRAM, WarmRuntimes
from warm_server import ENVIRONMENT, warm_runtimes, warm_stages

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import DeviceTimeout, ToolFailed
from pocketforge.registries import RUNTIMES
from pocketforge.run import worker

# Among the modules of a fork, and of no new interpreter.
TOLD_BY = PROGRAM.stem
# Weights and biases.
LINEAR = (
    np.random.default_rng(1).normal(size=(1024, 10)).astype(np.float32),
    np.linspace(-1, 1, 10, dtype=np.float32),
)


@pytest.fixture
def request_of(tmp_path: Path) -> RunRequest:
    return asked("onnx", linear_onnx(tmp_path / "model.onnx", *LINEAR), (32, 32, 1))


def asked(runtime: str, model: Path, shape: tuple[int, ...]) -> RunRequest:
    inputs, digest = model.with_name("x.npy"), hashlib.sha256(model.read_bytes()).hexdigest()
    np.save(inputs, np.random.default_rng(0).uniform(-1, 1, (3, *shape)).astype(np.float32))
    return RunRequest(RUNTIMES[runtime].session, model, digest, (inputs,), model.with_name("out"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_answers_as_a_new_interpreter(runtime: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if runtime == "executorch":
        parts: DigitsParts = request.getfixturevalue("digits_parts")
        asks = asked(runtime, Path(shutil.copy(parts.model(runtime, "int8"), tmp_path / "model.pte")), (1, 32, 32))
    elif runtime == "tflite":
        asks = asked(runtime, linear_tflite(tmp_path / "model.tflite", *LINEAR), (32, 32, 1))
    else:
        asks = asked(runtime, linear_onnx(tmp_path / "model.onnx", *LINEAR), (32, 32, 1))
    new = host.run(dataclasses.replace(asks, outputs=tmp_path / "new"))
    with warm_runtimes():
        warm = host.run(dataclasses.replace(asks, outputs=tmp_path / "warm"))
    outputs = [(tmp_path / name / "outputs_0.npy").read_bytes() for name in ("new", "warm")]
    assert outputs[0] == outputs[1]

    def but_measured(answer: RunAnswer) -> RunAnswer:
        return dataclasses.replace(answer, load_ms=0.0, peak_rss_bytes=0, loaded_rss_bytes=0, modules=())

    assert but_measured(new) == but_measured(warm)
    assert TOLD_BY in warm.modules and TOLD_BY not in new.modules
    assert set(warm.modules) - set(new.modules) <= set(sys.stdlib_module_names) | {TOLD_BY}


def test_a_stages_file_runs_in_a_fork_too(request_of: RunRequest, tmp_path: Path) -> None:
    """Whatever the toolchains in the stage's process have set."""
    with warm_stages():
        stage = worker.context([]).Process(target=tell_modules, args=(request_of, tmp_path / "told.json"), name="stage")
        stage.start()
        stage.join()
    assert TOLD_BY in json.loads((tmp_path / "told.json").read_text("utf-8"))


def tell_modules(request: RunRequest, told: Path) -> None:
    told.write_text(json.dumps(host.run(request).modules), encoding="utf-8")


def test_it_fails_in_the_same_words(request_of: RunRequest) -> None:
    said = set()
    for request in (
        dataclasses.replace(request_of, sha256="0" * 64),
        dataclasses.replace(request_of, model=request_of.model.with_name("none.onnx")),
    ):
        with pytest.raises(ToolFailed) as new:
            host.run(request)
        with warm_runtimes(), pytest.raises(ToolFailed) as warm:
            host.run(request)
        assert (warm.value.returncode, str(warm.value)) == (new.value.returncode, str(new.value))
        said.add(str(new.value))
    assert len(said) == 2


def test_what_takes_too_long_is_gone_and_a_crash_is_told(request_of: RunRequest, tmp_path: Path) -> None:
    forever = dataclasses.replace(request_of, samples=1, time_s=600.0)
    # Of this test alone: in the one that all share, files of other workers' tests run.
    with WarmRuntimes(tmp_path / "runtimes", os.getpid(), ENVIRONMENT).here():
        assert TOLD_BY in host.run(request_of).modules
        ((server, _),) = processes(tmp_path)
        try:
            with pytest.raises(DeviceTimeout, match="did not finish"):
                host.run(forever, timeout_s=2)
            wait_for(lambda: len(processes(tmp_path)) == 1)  # the copy is gone, and what watched it
            crash = threading.Thread(target=crash_the_copy, args=(tmp_path,))
            crash.start()
            with pytest.raises(ToolFailed, match="SIGSEGV") as caught:
                host.run(forever, timeout_s=60)
            crash.join()
        finally:
            os.kill(server, signal.SIGKILL)
    assert caught.value.returncode == -signal.SIGSEGV


def test_a_variable_of_the_test_is_for_a_new_interpreter(
    request_of: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warm_runtimes():
        assert TOLD_BY in host.run(request_of).modules
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
        assert TOLD_BY not in host.run(request_of).modules
        monkeypatch.delenv("OPENBLAS_CORETYPE")
        assert TOLD_BY not in host.run(dataclasses.replace(request_of, threads=2)).modules


def processes(folder: Path) -> list[tuple[int, int]]:
    """Those that hold a runtime and listen in this folder, with their copies: their ids, and their parents'."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in listed.splitlines() if f"{PROGRAM.name} onnx {folder}" in line]
    return sorted((int(words[0]), int(words[1])) for words in found)


def crash_the_copy(folder: Path) -> None:
    """The process whose parent and grandparent hold a runtime too."""

    def copies() -> list[int]:
        parents = dict(processes(folder))
        return [pid for pid, parent in parents.items() if parents.get(parent) in parents]

    wait_for(copies)
    os.kill(copies()[0], signal.SIGSEGV)


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 50
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
