"""Every device keeps the same promises: what it answers, how it measures, and what it does when things go wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from phone import MakePhone, Phone

from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import DeviceError, DeviceTimeout, ToolFailed
from pocketforge.registries import DEVICES
from pocketforge.specs.count import EmulatedPlace
from pocketforge.specs.places import HERE, PhonePlace

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MEGABYTE = 1 << 20
SAMPLES = 12
ROOT = Path(__file__).parents[2]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def linear_model(path: Path, inputs: int, outputs: int, repeat: int = 1) -> Path:
    """y = x W1 W2 … : a model of as many multiplications as wanted."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    sizes = [inputs] * repeat + [outputs]
    nodes, weights = [], []
    for k in range(repeat):
        weight = generator.standard_normal((sizes[k], sizes[k + 1])).astype(np.float32) / math.sqrt(inputs)
        weights.append(numpy_helper.from_array(weight, f"w{k}"))
        names = ["x" if k == 0 else f"h{k}", f"w{k}"], ["y" if k == repeat - 1 else f"h{k + 1}"]
        nodes.append(helper.make_node("MatMul", *names))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", 8, 3)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "eval_0.npy"
    np.save(path, np.random.default_rng(1).standard_normal((SAMPLES, 8)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def connected(make_shared_phone: MakePhone) -> Phone:
    """The only phone of these tests, so that no request has to name it."""
    return make_shared_phone("pixel4")


PLACES = {
    "host": HERE,
    "emulator": EmulatedPlace("emulator", "", 1800.0, 0),
    "adb": PhonePlace("adb", "", 1800.0),
}


@dataclass
class Somewhere:
    """A kind of device whose requests need not say where."""

    via: str

    @property
    def name(self) -> str:
        return DEVICES[self.via].runner

    def run(self, request: RunRequest) -> RunAnswer:
        there = dataclasses.replace(request, place=PLACES[self.via], files={"profile": "pixel4"})
        answer: RunAnswer = importlib.import_module(self.name).run(there)
        return answer


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Somewhere:
    if request.param != "host":
        request.getfixturevalue({"emulator": "emulator", "adb": "connected"}[request.param])
    return Somewhere(request.param)


@pytest.fixture(params=["host", "emulator"])
def timing(request: pytest.FixtureRequest) -> Somewhere:
    """Those that time by `run`; a phone is timed in rounds, by `adb.measure` (tests/phone)."""
    if request.param == "emulator":
        request.getfixturevalue("emulator")
    return Somewhere(request.param)


@pytest.fixture
def host() -> ModuleType:
    """The device that keeps time: what is measured is its alone (an emulated one's times mean nothing)."""
    return importlib.import_module(DEVICES["host"].runner)


def request_for(model: Path, data: Path, out: Path, **more: Any) -> RunRequest:
    values: dict[str, Any] = {
        "session": "onnx",
        "model": model,
        "sha256": sha256(model),
        "inputs": (data,),
        "outputs": out,
        **more,
    }
    return RunRequest(**values)


def test_a_run_answers_every_sample(device, model, samples, tmp_path):
    answer = device.run(request_for(model, samples, tmp_path / "out"))
    assert isinstance(answer, RunAnswer)
    weight = onnx.numpy_helper.to_array(onnx.load(model).graph.initializer[0])
    outputs = np.load(tmp_path / "out" / "outputs_0.npy")
    assert outputs.shape == (SAMPLES, 3) and outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, np.load(samples) @ weight, rtol=1e-5, atol=1e-6)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["outputs_0.npy"]
    assert [(t.name, t.dtype, t.shape) for t in answer.inputs] == [("x", "float32", (1, 8))]
    assert [(t.name, t.dtype, t.shape) for t in answer.outputs] == [("y", "float32", (1, 3))]
    assert answer.samples_ms == ()
    assert answer.runtime == f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    if device.via == "host":
        assert {"onnxruntime", "numpy"} <= set(answer.modules) and "pocketforge" not in answer.modules


def test_a_phone_is_not_timed_by_a_single_run(connected, model, samples, tmp_path):
    with pytest.raises(DeviceError, match="timed in rounds"):
        Somewhere("adb").run(request_for(model, samples, tmp_path / "out", samples=5))


def test_timing_takes_at_least_the_samples_asked_for(timing, model, samples, tmp_path):
    answer = timing.run(request_for(model, samples, tmp_path / "out", samples=25, warmup=3))
    assert len(answer.samples_ms) == 25
    assert all(0 < ms < 1000 for ms in answer.samples_ms)
    assert 0 < answer.load_ms < 30_000
    assert not (tmp_path / "out").exists(), "a timing run writes no outputs"


def test_timing_takes_at_least_the_time_asked_for(host, model, samples, tmp_path):
    answer = host.run(request_for(model, samples, tmp_path / "out", samples=1, time_s=0.5))
    assert len(answer.samples_ms) > 100, "a tiny model is run often in half a second"


def test_timings_grow_with_the_work(host, samples, tmp_path):
    """Not the clock's resolution, nor the call's overhead: 40 matrices of 512×512 take longer than one of 8×3."""
    small = linear_model(tmp_path / "small.onnx", 8, 3)
    large = linear_model(tmp_path / "large.onnx", 512, 512, repeat=40)
    np.save(tmp_path / "large.npy", np.ones((2, 512), np.float32))
    fast = host.run(request_for(small, samples, tmp_path, samples=50, warmup=5))
    slow = host.run(request_for(large, tmp_path / "large.npy", tmp_path, samples=50, warmup=5))
    assert min(slow.samples_ms) > 10 * min(fast.samples_ms)
    # 40 MB of weights are in the process, and counted.
    assert slow.loaded_rss_bytes - fast.loaded_rss_bytes > 20 * MEGABYTE


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_processors_as_threads(host, model, samples, tmp_path, threads):
    available = os.sched_getaffinity(0)
    if len(available) < threads:
        pytest.skip(f"this machine has {len(available)} processors")
    before = set(available)
    answer = host.run(request_for(model, samples, tmp_path / "out", samples=1, threads=threads))
    assert len(answer.cpus) == len(set(answer.cpus)) == threads
    assert set(answer.cpus) <= before
    assert os.sched_getaffinity(0) == before, "the caller's own processors stay as they were"


def test_memory_is_of_the_process_that_ran_the_file(host, model, samples, tmp_path):
    """A child starts with its parent's peak (ru_maxrss survives exec): a big build must not show in the numbers."""
    alone = host.run(request_for(model, samples, tmp_path / "alone"))
    ballast = np.ones(400 * MEGABYTE, np.uint8)
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert own > 400 * MEGABYTE, "the ballast is there"
    answer = host.run(request_for(model, samples, tmp_path / "big"))
    assert ballast[-1] == 1
    print(f"peak: {answer.peak_rss_bytes / MEGABYTE:.0f} MB under a parent of {own / MEGABYTE:.0f} MB")
    # Python, NumPy and ONNX Runtime are there, and not much else.
    assert 30 * MEGABYTE < answer.peak_rss_bytes < 300 * MEGABYTE
    assert answer.peak_rss_bytes < 1.3 * alone.peak_rss_bytes
    assert 0 <= answer.loaded_rss_bytes < answer.peak_rss_bytes


def test_a_file_that_takes_too_long(host, samples, tmp_path):
    model = linear_model(tmp_path / "m.onnx", 8, 3)
    started = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"did not finish running m\.onnx in 2 s") as caught:
        host.run(request_for(model, samples, tmp_path / "out", samples=1, time_s=600.0), timeout_s=2)
    assert time.monotonic() - started < 30
    assert caught.value.exit_code == 4 and caught.value.hint
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _is_ours(p, tmp_path)]
    assert left == [], "the process that took too long is gone"


def _is_ours(cmdline: Path, folder: Path) -> bool:
    try:
        return (
            b"sessions/runner.py" in cmdline.read_bytes()
            and str(os.getpid())
            in (cmdline.with_name("status").read_text(encoding="ascii").partition("PPid:")[2].split()[:1])
        )
    except OSError:
        return False


def test_a_file_that_is_not_there(device, model, samples, tmp_path):
    request = request_for(model, samples, tmp_path / "out")
    with pytest.raises(ToolFailed, match=r"no\.onnx") as caught:
        device.run(dataclasses.replace(request, model=tmp_path / "no.onnx"))
    assert re.search("FileNotFoundError|No such file", caught.value.stderr_tail)


def test_samples_that_are_not_there(device, model, tmp_path):
    with pytest.raises(ToolFailed, match=r"no\.npy"):
        device.run(request_for(model, tmp_path / "no.npy", tmp_path / "out"))


def test_a_file_that_changed(device, model, samples, tmp_path):
    with pytest.raises(ToolFailed, match=rf"linear\.onnx.*{sha256(model)}") as caught:
        device.run(request_for(model, samples, tmp_path / "out", sha256="0" * 64))
    assert "SHA-256" in caught.value.stderr_tail and "0" * 64 in caught.value.stderr_tail
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_is_named_by_its_signal(host, model, samples, tmp_path):
    """A runtime that crashes takes its own process down, not ours; another interpreter may be a broken one."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="ascii")
    python.chmod(0o755)
    with pytest.raises(ToolFailed, match="SIGSEGV") as caught:
        host.run(request_for(model, samples, tmp_path / "out"), python=str(python))
    assert caught.value.returncode == -signal.SIGSEGV


def test_where_the_user_stands_does_not_matter(device, model, samples, tmp_path):
    """A numpy.py beside the user, or on PYTHONPATH, is not what the runtime sees."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for name in ("numpy", "onnxruntime", "json"):
            (tmp_path / folder / f"{name}.py").write_text("raise RuntimeError('the wrong one')", encoding="ascii")
    program = textwrap.dedent(f"""\
        import sys, os
        sys.path = [{str(ROOT)!r}] + [p for p in sys.path if p not in ("", os.getcwd(), {str(tmp_path / "there")!r})]
        import importlib
        from pathlib import Path
        from pocketforge.devices.base import RunRequest
        from pocketforge.specs.count import EmulatedPlace
        from pocketforge.specs.places import PhonePlace, Place
        device = importlib.import_module({device.name!r})
        os.environ["PYTHONPATH"] = {str(tmp_path / "there")!r}
        os.chdir({str(tmp_path / "here")!r})
        device.run(RunRequest("onnx", Path({str(model)!r}), {sha256(model)!r}, (Path({str(samples)!r}),), Path("out"),
                              place={PLACES[device.via]!r}, files={{"profile": "pixel4"}}))
        """)
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "here" / "out" / "outputs_0.npy").shape == (SAMPLES, 3)
