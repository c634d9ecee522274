"""Starting runners: what the program sees, and that nothing is left running, whatever ends it."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pocketforge.device_calibration import micro_models
from pocketforge.devices import watched
from pocketforge.devices.answers import NativeAnswer
from pocketforge.devices.emulator import launch as launching
from pocketforge.devices.emulator.launch import Machine, Order, command, launch, prefix
from pocketforge.devices.emulator.parts import Emulator
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profile_files import load_profile
from pocketforge.errors import DeviceError, DeviceTimeout, DeviceUnavailable, ToolFailed

PROFILE = load_profile("pixel4")
CLUSTER = PROFILE.cluster()
DAY_MS = 86_400_000


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """One int8 convolution; its folder's name is in every process that runs it."""
    (tmp_path / "conv.tflite").write_bytes(micro_models.operator("conv-bn-relu", 12, 8, 16, 3, 1))
    np.random.default_rng(0).integers(-128, 127, (1, 12, 12, 8), dtype=np.int8).tofile(tmp_path / "in.bin")
    return Order("tflite", tmp_path / "conv.tflite", "", (tmp_path / "in.bin",), tmp_path / "out", "run")


@pytest.fixture
def endless(order: Order) -> Order:
    return dataclasses.replace(order, mode="time", samples=1, time_ms=DAY_MS)


def go(emulator: Emulator, order: Order, *, timeout_s: float = 120, limit: int = 0) -> NativeAnswer:
    return launch(Machine(emulator, PROFILE, CLUSTER, timeout_s, limit), order)


def running(order: Order) -> list[int]:
    """Processes with the order's model on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.fsencode(order.model) in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_it_runs_and_the_answer_is_the_runners(emulator, order):
    answer = go(emulator, order)
    assert answer["runtime"] == "tflite" and (order.outputs / "outputs_0.bin").stat().st_size == 12 * 12 * 16
    assert go(emulator, order)["outputs"] == answer["outputs"] and not running(order)


def test_the_users_environment_does_not_get_through(emulator, order, tmp_path, monkeypatch):
    before = go(emulator, order)["outputs"]
    for name, value in {
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_PRELOAD": "/absent.so",
        "QEMU_CPU": "cortex-a53",
        "QEMU_STRACE": "1",
        "QEMU_LD_PREFIX": "/absent",
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "64",
    }.items():
        monkeypatch.setenv(name, value)
    assert go(emulator, order)["outputs"] == before
    monkeypatch.undo()
    assert set(launching.environment(3)) == {
        "HOME",
        "LC_ALL",
        "OMP_NUM_THREADS",
        "ORT_DISABLE_TELEMETRY",
        "PATH",
        "TMPDIR",
    }


def test_the_prefix_shows_the_profiles_cores_and_is_gone_afterwards(emulator, order):
    with prefix(emulator, PROFILE, CLUSTER) as folder:
        assert f"CPU part\t: {CLUSTER.part:#05x}" in (folder / "proc/cpuinfo").read_text()
        assert (folder / "lib" / "ld-linux-aarch64.so.1").is_file()
        argv = command(Machine(emulator, PROFILE, CLUSTER, 60), folder, order, ("-d", "nochain"))
        assert argv[argv.index("-L") + 1] == str(folder) and argv[argv.index("-d") + 1] == "nochain"
    assert not folder.exists() and emulator.sysroot.is_dir()


def test_a_time_limit(emulator, endless):
    started = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"conv\.tflite was not done in 2 s on the emulated pixel4"):
        go(emulator, endless, timeout_s=2)
    # Not at once, and not at an end of its own: it has none.
    assert time.monotonic() - started > 1.9 and not running(endless)


def test_a_memory_limit_says_what_was_wanted_and_found(emulator, endless):
    with pytest.raises(DeviceError, match=r"wanted at most 16 MiB, found \d+ MiB"):
        go(emulator, endless, limit=16 * 1024 * 1024)
    assert not running(endless)


def test_memory_that_was_over_before_anyone_looked_fails_too(emulator, order, monkeypatch):
    monkeypatch.setattr(watched, "POLL_S", 60.0)
    with pytest.raises(DeviceError, match="needs more memory than it may use"):
        go(emulator, order, limit=16 * 1024 * 1024)
    assert go(emulator, order, limit=2**31)["runtime"] == "tflite"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_from_outside(emulator, endless, sent):
    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid in running(endless):
                time.sleep(0.5)
                os.kill(pid, sent)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ToolFailed, match=sent.name):
        go(emulator, endless)
    killer.join()
    assert not running(endless)


def test_an_interrupt_leaves_nothing(emulator, endless, monkeypatch):
    def interrupted(pid: int) -> int:
        assert running(endless) == [pid]
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "_peak_rss_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(emulator, endless)
    assert not running(endless)


def test_a_model_that_does_not_load_in_the_runners_own_words(emulator, order):
    order.model.write_bytes(order.model.read_bytes()[:100])
    with pytest.raises(ToolFailed, match=r"(?s)exit code 65:.*pf_litert: .*not a valid flatbuffer") as caught:
        go(emulator, order)
    assert "INFO" not in str(caught.value)


def test_another_file_than_the_one_meant(emulator, order):
    with pytest.raises(ToolFailed, match="wanted SHA-256 0000"):
        go(emulator, dataclasses.replace(order, sha256="0" * 64))


def test_parts_that_are_gone_or_damaged(emulator, order, tmp_path):
    setup = "pocketforge device setup emulator"
    (tmp_path / "data").write_bytes(b"\x7fELF")
    (tmp_path / "cut.so").write_bytes(emulator.libraries["tflite"].read_bytes()[:50_000])
    with pytest.raises(DeviceUnavailable, match=setup):
        go(dataclasses.replace(emulator, libraries={"tflite": tmp_path / "cut.so"}), order)
    with pytest.raises(DeviceUnavailable, match="no runner for tflite"):
        go(dataclasses.replace(emulator, runners={}), order)
    cpu = cpu_option(PROFILE, CLUSTER, emulator.qemu, emulator.qemu_version)
    for qemu in (tmp_path / "absent", tmp_path / "data"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launching, "cpu_option", lambda *_: cpu)
            with pytest.raises(DeviceUnavailable, match=setup):
                go(dataclasses.replace(emulator, qemu=qemu), order)
