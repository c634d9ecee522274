"""A file is timed on the host in several new processes, some time apart, and each one's samples are told apart."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pocketforge.devices.base import RunRequest
from pocketforge.errors import StageFailed, ToolFailed
from pocketforge.files import hash_file
from pocketforge.measure.processes import PROCESSES_VARIABLE, time_in_processes

SPACING_S = 0.6


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    folder = tmp_path_factory.mktemp("timed")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    model = folder / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    np.save(folder / "x.npy", np.ones((2, 8), np.float32))
    return RunRequest("onnx", model, hash_file(model), (folder / "x.npy",), folder, samples=32, warmup=1)


_STARTED: list[float] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    # A hook cannot be taken out again, so there is one.
    if event == "subprocess.Popen" and "runner.py" in str(arguments[1]):
        _STARTED.append(time.monotonic())


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(_note)


@pytest.fixture
def started(hook: None) -> list[float]:
    """When a process that runs model files was started."""
    _STARTED.clear()
    return _STARTED


def test_each_process_is_new_and_has_its_samples(
    request_: RunRequest, started: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    told: list[float] = []
    found = time_in_processes(request_, 3, SPACING_S, progress=lambda fraction, _text: told.append(fraction))
    assert len(started) == 3 and told == pytest.approx([1 / 3, 2 / 3, 1])
    # Kept from before a process is made, seen when it is: a busy machine may take a moment in between.
    assert min(later - earlier for earlier, later in itertools.pairwise(started)) >= SPACING_S / 2
    parts = found.how.processes
    # 32 in all are 11 in each of three.
    assert [part.samples for part in parts] == [11, 11, 11] and len(found.samples_ms) == 33
    for number, part in enumerate(parts):
        assert part.p50_ms == float(np.median(found.samples_ms[11 * number : 11 * number + 11]))
        assert part.load_ms > 0 and 0 < part.peak_rss_bytes <= found.peak_rss_bytes


def test_what_other_programs_took_is_kept(request_: RunRequest) -> None:
    """A program of ours that counts on: its share is in the figure; all processors' time bounds it."""
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found = time_in_processes(request_, 3, 0.0)
    finally:
        program.kill()
        program.wait()
    assert 0.1 / (os.cpu_count() or 1) < found.how.others <= 1


def test_a_bound_for_quick_runs_leaves_three(
    request_: RunRequest, started: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "3")
    found = time_in_processes(request_, 8, 1e9)
    assert len(started) == len(found.how.processes) == 3


@pytest.mark.parametrize("value", ["2", "0", "-4", "many", "3.5"])
def test_a_bound_that_leaves_no_interval_is_refused(
    request_: RunRequest, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, value)
    with pytest.raises(StageFailed, match=f"POCKETFORGE_BENCH_PROCESSES must be .* 3 or more, found '{value}'"):
        time_in_processes(request_, 5, 0.0)


def test_a_file_that_does_not_load_ends_at_the_first_process(request_: RunRequest, started: list[float]) -> None:
    broken = Path(request_.outputs, "broken.onnx")
    broken.write_bytes(b"no model")
    with pytest.raises(ToolFailed, match=r"broken\.onnx"):
        time_in_processes(
            RunRequest("onnx", broken, hash_file(broken), request_.inputs, request_.outputs, samples=3),
            3,
            0.0,
            quiet=True,
        )
    assert len(started) == 1
