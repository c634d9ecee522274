"""`import pocketforge` in programs: a script without a guard among files with taken names, threads, ^C, a callback that
raises. What the functions say of reports is in tests/unit/test_python_api.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from release_build import ROOT, SOURCES
from test_working_folder import FLOAT
from warm_server import warm_stages

import pocketforge
from pocketforge import errors, events

# What Python itself, and the script's own first line, do not need.
TAKEN = ("pipeline", "onnx", "torch", "numpy", "sklearn", "onnxruntime", "jinja2", "rich", "cattrs", "safetensors")
# No `if __name__ == "__main__"`: a process that ran it again would say so, and build.
SCRIPT = """
import os, subprocess, sys
os.write(1, b"ran\\n")
import pocketforge
assert not {"torch", "numpy", "click", "rich", "cattrs"} & set(sys.modules), sys.modules
def surroundings():
    return list(sys.path), dict(os.environ), os.getcwd()
before = surroundings()
report = pocketforge.build("recipe.toml")
assert report.verdict == "PASS" and report.release.is_dir(), report.warnings
again = pocketforge.build("recipe.toml", targets="mine_onnx")
assert {step.status for step in again.steps} == {"reused"}
assert again.targets == report.targets and again.measurements == report.measurements
assert pocketforge.load_report("build/mine") == again and pocketforge.gate(again)
assert pocketforge.inspect(report.release / "mine_onnx.onnx").format == "onnx"
assert surroundings() == before
listed = ["ps", "-ww", "-o", "args=", "--ppid", str(os.getpid())]  # -ww: whole, whatever COLUMNS says
children = subprocess.run(listed, capture_output=True, text=True).stdout
ours = [line for line in children.splitlines() if "resource_tracker" not in line and not line.startswith("ps ")]
assert ours == [], ours  # no fork server stays; Python's own tracker does, as for any program that uses multiprocessing
print("did")
"""


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("model.py", "weights.safetensors"):
        shutil.copy(ROOT / "models" / "mlp_digits" / name, folder)
    (folder / "recipe.toml").write_text(FLOAT)
    return folder


def test_a_script_without_a_guard_builds_among_files_with_the_names_of_libraries(folder: Path) -> None:
    for name in TAKEN:
        (folder / f"{name}.py").write_text("import os\nos.write(2, b'the user\\'s own module ran\\n')\nos._exit(77)\n")
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(folder.parent / "cache"), "PYTHONPATH": SOURCES},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\ndid\n", "")


@pytest.fixture
def two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recipe of two targets, and budgets on one and on both; the current folder is its."""
    second = '\n[[target]]\nname = "other"\nruntime = "onnx"\n'
    budgets = '\n[[budget]]\nmetric = "size_bytes"\nlimit = 1\ntarget = "other"\n'
    (folder / "recipe.toml").write_text(FLOAT.replace("\n[[budget]]", f"{second}\n[[budget]]", 1) + budgets)
    monkeypatch.chdir(folder)
    with warm_stages():
        yield folder


def stopped(call: Callable[[events.Event], None], two: Path, kind: type[BaseException]) -> None:
    """Build anew, with `call` told of each event; what it raises is raised, and no stage is left."""
    pids: list[int] = []

    def told(event: events.Event) -> None:
        if isinstance(event, events.StepStarted):
            pids.append(event.pid)
        call(event)

    with pytest.raises(kind, match="enough" if kind is errors.StageFailed else None):
        pocketforge.build("recipe.toml", cache="cache", refresh=True, progress=told)
    deadline = time.monotonic() + 60
    while any(map(is_alive, pids)) and time.monotonic() < deadline:  # who is killed needs a moment to end
        time.sleep(0.05)
    assert pids and not any(map(is_alive, pids))


def test_a_part_of_a_recipe_from_a_thread_and_builds_that_are_stopped(
    two: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found: list[pocketforge.Report] = []
    news: list[events.Event] = []

    def build() -> None:
        found.append(pocketforge.build("recipe.toml", targets=["mine_onnx"], cache="cache", progress=news.append))

    thread = threading.Thread(target=build)
    thread.start()
    thread.join(300)
    (report,) = found
    # The budget that the other cannot keep is none of this one's.
    assert report.passed and [budget.target for budget in report.budgets] == ["mine_onnx"]
    assert [target.name for target in report.targets] == ["mine_onnx"]
    (said,) = [text for text in report.warnings if "not asked for" in text]
    assert said.endswith("and are not built, nor judged by the budgets of theirs (1): other")
    assert {type(event).__name__ for event in news} >= {"BuildStarted", "StepStarted", "StepFinished", "Warned"}
    assert (report.path, report.release) == (Path("build/mine/report.json"), Path("build/mine/release"))
    assert pocketforge.load_report("build/mine") == report

    failed = pocketforge.build("recipe.toml", cache="cache", out="all")
    assert (failed.verdict, failed.passed, failed.release, failed.exit_code) == ("FAIL", False, None, 1)
    assert [budget.verdict for budget in failed.budgets if budget.budget.target] == ["FAIL"]

    def fail(event: events.Event) -> None:
        if isinstance(event, events.StepStarted):
            raise errors.StageFailed("enough")  # even one of ours is the caller's here, not the stage's

    stopped(fail, two, errors.StageFailed)

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.StepStarted):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stopped(interrupt, two, KeyboardInterrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pocketforge.load_report("all") == failed, "an earlier build's results are as they were"
    assert capfd.readouterr() == ("", "")
