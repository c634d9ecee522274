"""Builds that are interrupted, killed or run twice at once: the store stays whole, nothing runs on, work is kept."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, in_process
from release_build import SOURCES

DIGITS = ROOT / "models" / "digits_cnn"
MARK = "POCKETFORGE_TEST_MARK"
PATIENCE_S = 180
INTERRUPTED = "interrupted; what was finished is kept, and the next run goes on from there"
# No test waits for its end: met in its middle however slow the machine is.
ENDLESS = '\n[[device]]\nname = "host"\nwarmup = 0\nmin_samples = 10\nmin_seconds = 120\n'
QUICK = '\n[[device]]\nname = "host"\nwarmup = 0\nmin_samples = 10\nmin_seconds = 0.2\n'
FINETUNE = '\n[[compress]]\ntype = "finetune"\nepochs = 1\nlr = 1e-4\n'


class Told:
    """What a build with `--progress json` wrote to stderr: its events, and what else it said."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.said: list[str] = []

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.startswith("{"):
                self.events.append(json.loads(line))
            else:
                self.said.append(line.rstrip("\n"))

    def seen(self, event: str, stage: str = "", lane: str = "") -> list[dict[str, Any]]:
        return [
            e
            for e in list(self.events)
            if e["event"] == event and stage in ("", e.get("stage")) and lane in ("", e.get("lane"))
        ]


class Build(Told):
    """A `pocketforge build` in a process group of its own; its events as they come."""

    def __init__(self, shop: Shop, *args: object, out: str = "out") -> None:
        super().__init__()
        # Every process that comes from this one has the mark in its environment.
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pocketforge", "build", "recipe.toml", "--out", out, "--progress", "json"]
            + [str(a) for a in args],
            cwd=shop.folder,
            env={**shop.env, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.read(lines)

    def until(self, event: str, stage: str = "", lane: str = "") -> dict[str, Any]:
        """Wait for an event."""
        self.wait_for(lambda: self.seen(event, stage, lane), f"{event} {stage} {lane}")
        return self.seen(event, stage, lane)[0]

    def wait_for(self, happened: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self.process.poll() is None, f"the build ended before: {what}\n{self.said}\n{self.events}"
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s and it did not happen: {what}"
            time.sleep(0.01)

    def end(self, timeout: float = PATIENCE_S) -> int:
        code = self.process.wait(timeout)
        self._reader.join(30)
        return code

    def alive(self) -> list[str]:
        """Command lines of the processes that came from this build and still run."""
        found = []
        for folder in Path("/proc").iterdir():
            # A zombie's environment is empty: it holds nothing and does nothing.
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{folder.name} {command}")
        return found

    def is_running(self, what: str) -> bool:
        return any(what in line for line in self.alive())

    def all_end(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while left := self.alive():
            assert time.monotonic() < deadline, f"still running after {within_s} s: {left}"
            time.sleep(0.05)


class Shop:
    """A copy of the digits recipe, cut to a few targets, and a copy of a cache in which everything is built."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.env = {**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": SOURCES}
        self.builds: list[Build] = []

    def recipe(self, *targets: str, more: str = "") -> None:
        head, *blocks = re.split(r"^\[\[", (DIGITS / "release.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
        chosen = [f"[[{b}" for b in blocks if b.startswith("target") and any(f'"digits_{t}"' in b for t in targets)]
        assert len(chosen) == len(targets)
        (self.folder / "recipe.toml").write_text(head + "".join(chosen) + more, encoding="utf-8")

    def run(self, *args: object) -> Done:
        """A command that nobody interrupts."""
        return in_process(*args, cache=self.cache, cwd=self.folder)

    def plan(self) -> list[dict[str, Any]]:
        done = self.run("plan", "recipe.toml", "--json")
        assert done.code == 0, done.stderr
        return json.loads(done.stdout)["steps"]

    def forget(self, *stages: str) -> None:
        """Take the results of stages out of the cache."""
        for step in self.plan():
            if step["stage"] in stages:
                shutil.rmtree(self.entry(step["key"]), ignore_errors=True)

    def entry(self, key: str) -> Path:
        return self.cache / "v1" / "entries" / key[:2] / key

    def start(self, *args: object, out: str = "out") -> Build:
        self.builds.append(Build(self, *args, out=out))
        return self.builds[-1]

    def is_whole(self) -> None:
        """Every stored result is whole, and there is no half one."""
        done = self.run("cache", "verify")
        assert (done.code, done.stderr) == (0, ""), done.stdout + done.stderr
        assert re.fullmatch(r"\d+ results whole, 0 damaged\n", done.stdout)
        assert self.left_in_tmp() == []

    def left_in_tmp(self) -> list[str]:
        return sorted(p.name for p in (self.cache / "v1" / "tmp").iterdir())

    def report(self, out: str = "out") -> Any:
        return json.loads((self.folder / out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture
def shop(release: Any, tmp_path: Path) -> Iterator[Shop]:
    assert release.done.code == 0, release.done.stderr
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("model.py", "weights.safetensors", "labels.txt"):
        shutil.copy(DIGITS / name, folder)
    shop = Shop(folder, release.copy_cache(tmp_path / "cache"))
    yield shop
    for build in shop.builds:
        for line in build.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        build.end()


def interrupted_well(shop: Shop, build: Build) -> None:
    """Ended as a ^C should end it, and soon."""
    assert build.end(timeout=15) == 130
    # An empty line comes first, for terminals, which have just written ^C.
    assert build.said == ["", INTERRUPTED]
    build.all_end(within_s=5)
    shop.is_whole()
    assert not list(shop.folder.rglob("release"))
    assert not (shop.folder / "out" / "report.json").exists()


def goes_on(shop: Shop, first: Build) -> Told:
    """The next build succeeds and runs nothing that the first had finished or found stored."""
    done = shop.run("build", "recipe.toml", "--out", "out", "--progress", "json")
    assert done.code == 0, done.stderr
    second = Told()
    second.read(done.stderr.splitlines())
    kept = {e["key"] for e in first.seen("StepReused") + first.seen("StepFinished")}
    assert kept <= {e["key"] for e in second.seen("StepReused")}
    assert (shop.folder / "out" / "release" / "SHA256SUMS").is_file()
    assert shop.report()["verdict"] == "PASS"
    shop.is_whole()
    return second


@pytest.mark.parametrize(
    ("stage", "target", "gone", "more"),
    [
        ("data", "onnx_fp32", ("data",), ""),
        ("finetune", "onnx_fp32", ("finetune", "data"), FINETUNE),
        ("reference", "onnx_fp32", ("reference",), ""),
        ("quantize", "onnx_int8", ("quantize",), ""),
        ("export", "onnx_fp32", ("reference", "export", "verify", "bench"), ""),
        ("verify", "onnx_fp32", ("verify", "bench"), ""),
        ("bench", "onnx_fp32", ("verify", "bench"), ""),
    ],
    ids=["data", "finetune", "reference", "quantize", "export", "verify", "bench"],
)
def test_ctrl_c_in_every_stage(shop: Shop, stage: str, target: str, gone: tuple[str, ...], more: str) -> None:
    shop.recipe(target, more=more)
    shop.forget(*gone)
    build = shop.start()
    started = build.until("StepStarted", stage)
    if stage in ("verify", "bench"):
        build.wait_for(lambda: build.is_running("runner.py"), "the file runs in a process of its own")
    elif stage != "data":  # too quick to be met in its middle
        build.until("StepProgress", stage)
    assert any(line.startswith(f"{started['pid']} ") for line in build.alive())
    build.process.send_signal(signal.SIGINT)
    interrupted_well(shop, build)
    assert not build.seen("StepFinished", stage)
    assert not build.seen("StepFailed")
    # Of the finetuned model everything would be new: that a build with it goes on is shown without its lanes.
    if stage == "finetune":
        shop.recipe(target)
        assert goes_on(shop, build).seen("StepFinished") == []
    else:
        assert goes_on(shop, build).seen("StepFinished")[0]["stage"] == stage


@pytest.mark.parametrize("how", ["while libraries load", "again and again"])
def test_ctrl_c_in_a_terminal_reaches_the_whole_group(shop: Shop, how: str) -> None:
    # Of one toolchain, which is imported for two lanes as for one; and of none where only files are run.
    shop.recipe("onnx_fp32", "onnx_int8", more=ENDLESS)
    shop.forget("verify", *(["export"] if how == "while libraries load" else []))
    build = shop.start("--jobs", 2)
    if how == "while libraries load":
        build.wait_for(lambda: build.is_running("forkserver"), "the fork server runs")
        time.sleep(0.5)
        assert not build.seen("StepStarted"), "the libraries were there too soon for this test"
    else:
        build.wait_for(lambda: len(build.seen("StepStarted")) == 2, "both lanes run")
    os.killpg(build.process.pid, signal.SIGINT)
    while how == "again and again" and build.process.poll() is None:
        # An impatient user: stopping must not be stopped in its middle.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.process.pid, signal.SIGINT)
        time.sleep(0.002)
    interrupted_well(shop, build)


def test_sigterm_is_as_ctrl_c(shop: Shop) -> None:
    shop.recipe("onnx_fp32", more=ENDLESS)
    build = shop.start()
    build.wait_for(lambda: build.is_running("runner.py"), "the file runs in a process of its own")
    build.process.terminate()
    interrupted_well(shop, build)


def test_a_killed_build_takes_its_stage_along_and_the_next_one_cleans_up(shop: Shop) -> None:
    shop.recipe("onnx_fp32")
    shop.forget("reference", "export")
    build = shop.start()
    build.until("StepProgress", "export")
    build.process.kill()
    assert build.end() == -signal.SIGKILL
    build.all_end(within_s=20)
    assert shop.left_in_tmp(), "nothing was left behind: the build was not killed in the middle of a stage"
    second = goes_on(shop, build)
    assert [e["stage"] for e in second.seen("StepFinished")] == ["export"]


def test_a_killed_build_leaves_no_benchmark_running(shop: Shop) -> None:
    shop.recipe("onnx_fp32", more=ENDLESS)
    build = shop.start()
    build.wait_for(lambda: build.is_running("runner.py"), "the file runs in a process of its own")
    build.process.kill()
    build.all_end(within_s=20)


def test_a_killed_exporter_fails_its_own_lane_only(shop: Shop) -> None:
    shop.recipe("onnx_fp32", "onnx_int8")
    shop.forget("export", "verify", "bench")
    (shop.folder / "out" / "release").mkdir(parents=True)
    (shop.folder / "out" / "release" / "old.onnx").write_bytes(b"of an earlier build")
    build = shop.start("--jobs", 2)
    os.kill(build.until("StepStarted", "export", "digits_onnx_int8")["pid"], signal.SIGKILL)
    assert build.end() == 3
    failed = build.seen("StepFailed")
    assert [(e["stage"], e["lane"]) for e in failed] == [("export", "digits_onnx_int8")]
    said = "\n".join(build.said)
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1
    assert re.search(r"^error: export digits_onnx_int8: the process of .* ended with SIGKILL", said, re.MULTILINE)
    log = re.search(r"^  log: (.*)$", said, re.MULTILINE)
    assert log is not None
    assert (shop.folder / log[1]).is_file()
    assert "Traceback" not in said
    finished = [e["stage"] for e in build.seen("StepFinished", lane="digits_onnx_fp32")]
    assert finished == ["export", "verify", "bench"]
    report = shop.report()
    states = {t["name"]: (t["status"], t["error"]) for t in report["targets"]}
    assert report["verdict"] == "ERROR"
    assert states["digits_onnx_fp32"] == ("built", "")
    assert states["digits_onnx_int8"][0] == "failed"
    assert "SIGKILL" in states["digits_onnx_int8"][1]
    assert not (shop.folder / "out" / "release").exists()
    shop.is_whole()
    shown = shop.run("report", "out")
    assert re.search(r"digits_onnx_int8 .*failed", shown.stdout)


def test_two_builds_at_once_make_everything_once(shop: Shop) -> None:
    shop.recipe("onnx_fp32", more=QUICK)
    shop.forget("reference", "export", "verify", "bench")
    first, second = shop.start(out="one"), Told()
    first.until("StepStarted", "reference")
    done = shop.run("build", "recipe.toml", "--out", "two", "--progress", "json")
    second.read(done.stderr.splitlines())
    builds = [first, second]
    assert [first.end(), done.code] == [0, 0], [build.said for build in builds]
    for step in shop.plan():
        both = [e["event"] for build in builds for e in build.events if e.get("key") == step["key"]]
        ends = sorted(event for event in both if event in ("StepFinished", "StepReused", "StepFailed"))
        made_before = step["stage"] == "data"
        assert ends == (["StepReused"] * 2 if made_before else ["StepFinished", "StepReused"]), step["stage"]
    sums = [(shop.folder / out / "release" / "SHA256SUMS").read_text() for out in ("one", "two")]
    assert sums[0] == sums[1] != ""
    shop.is_whole()


SMALL = (
    """\
name = "small"

[model]
definition = "small.py"

[data]
source = "small.py:samples"
calibration_samples = 10

[[target]]
name = "small_onnx"
runtime = "onnx"

[[target]]
name = "small_tflite"
runtime = "tflite"
layout = "NHWC"
"""
    + QUICK
)

SMALL_MODEL = """\
import numpy as np
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def samples():
    targets = np.arange(90) % 3
    return np.eye(3, 4, dtype=np.float32)[targets] + np.random.default_rng(0).normal(size=(90, 4)), targets
"""


def test_what_one_runtime_cannot_export_fails_its_own_lane_only(shop: Shop) -> None:
    (shop.folder / "recipe.toml").write_text(SMALL, encoding="utf-8")
    (shop.folder / "small.py").write_text(SMALL_MODEL, encoding="utf-8")
    build = Told()
    ended = shop.run("build", "recipe.toml", "--out", "out", "--progress", "json")
    build.read(ended.stderr.splitlines())
    assert ended.code == 3
    assert build.said[0] == "error: export small_tflite: layout NHWC needs an input of four dimensions"
    assert build.said[1].startswith("  hint: leave layout at")
    assert build.said[2].startswith("  log: ")
    assert len(build.said) == 3
    states = {t["name"]: t["status"] for t in shop.report()["targets"]}
    assert states == {"small_onnx": "built", "small_tflite": "failed"}
    assert [(e["stage"], e["because"]) for e in build.seen("StepSkipped")] == [
        ("verify", "export[small_tflite] failed"),
        ("bench", "export[small_tflite] failed"),
    ]
    assert not (shop.folder / "out" / "release").exists()
    shop.is_whole()
    # For people the message is said once too.
    done = shop.run("build", "recipe.toml", "--out", "out", "--progress", "plain")
    assert done.code == 3
    assert done.stderr.count("needs an input of four dimensions") == 1
    assert re.search("^  failed  export     small_tflite$", done.stderr, re.MULTILINE)
