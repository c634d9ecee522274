"""Running a command in this process proves what running the program does: both answer alike, and stages live alike."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, in_process, pocketforge

RECIPE = """\
name = "seen"

[model]
definition = "model.py"

[data]
source = "digits"

[[target]]
name = "seen_onnx"
runtime = "onnx"
"""
# A stage that tells where and as what it runs.
MODEL = """\
import json, os, sys
from torch import nn

def build():
    told = {"folder": os.getcwd(), "environment": dict(os.environ), "group": os.getpgid(0) == os.getpid()}
    with open("told.json", "w") as file:
        json.dump(told | {"pid": os.getpid()}, file)
    print("on stdout"), print("on stderr", file=sys.stderr)
    os.write(1, b"past Python\\n")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""
# For each command, words that it refuses: the shortest way through the whole program and out again, before any of them
# imports torch (tests/cli runs `model show` and `train` to their ends as programs).
REFUSED = (
    ("build", "none.toml"), ("plan", "none.toml"), ("check", "none.toml"), ("bench", "model.py"), ("gate", "."),
    ("report", "."), ("device", "setup", "iphone"), ("model", "show", "--none"), ("study", "pruning", "none.toml"),
    ("codebook", "pack", "none"), ("sparse", "pack", "none"), ("why", "none", "none.toml"), ("inspect", "none.onnx"),
    ("cache", "clear", "--older-than", "soon"), ("train", "--none"), ("init", "none.py"), ("doctor", "--none"),
    ("docs", "none"), ("size", "none.onnx"), ("sign", "none"), ("verify-release", "none"), ("release", "none"),
    ("package", "none", "--for", "web"), ("baseline", "set", "main"),
    ("gate-file", "none.onnx"), ("compare-files", "none.onnx", "none.tflite"), ("history", "show", "none"),
    ("fit", "none.toml"), ("cluster", "status", "none"), ("worker", "none"), ("scheduler", "--none"),
    ("completion", "none"), ("biuld",), ("build",),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_the_program_ends_as_its_twin_does(words: tuple[str, ...], folder: Path) -> None:
    program, twin = (run(*words, cache=folder / "cache", cwd=folder) for run in (pocketforge, in_process))
    assert program == twin
    assert (program.code, program.stdout) == (2, "")
    assert "Traceback" not in program.stderr and program.stderr.lower().count("error: ") == 1


def test_every_command_is_among_them() -> None:
    from pocketforge.cli.main import COMMANDS

    assert set(COMMANDS) <= {words[0] for words in REFUSED}


def test_a_stage_lives_as_in_a_program_of_its_own(folder: Path) -> None:
    told, answers = [], []
    for name, run in (("one", pocketforge), ("two", in_process)):
        done = run(
            "check", "recipe.toml", "--json", cache=folder / "cache" / name, cwd=folder, env={"SEEN": "é", "OTHER": ""}
        )
        answers.append((done.code, done.json(), done.stderr))
        told.append(json.loads((folder / "told.json").read_text("utf-8")))
    assert answers[0] == answers[1] and answers[0][0] == 0 and answers[0][2] == ""
    assert told[0].pop("pid") != told[1].pop("pid") != os.getpid()
    for life in told:
        environment = life["environment"]
        assert environment.pop("POCKETFORGE_CACHE_DIR").startswith(str(folder / "cache"))
        assert str(folder / "cache") in environment.pop("POCKETFORGE_READS"), "its own folders are no inputs"
        assert "/pocketforge-" in environment.pop("TMPDIR"), "each stage has one of its own"
        # What a server is to import, and where the program finds the checkout, is for those processes only; torch sets
        # the third when it is imported, to a folder in TMPDIR.
        for name in ("POCKETFORGE_PRELOAD", "PYTHONPATH", "TORCHINDUCTOR_CACHE_DIR"):
            environment.pop(name, None)
    # JAX sets these when it is imported, as in every program that builds for TFLite.
    for name in {"TF_CPP_MIN_LOG_LEVEL", "TPU_SKIP_MDS_QUERY"} - told[0]["environment"].keys():
        told[1]["environment"].pop(name, None)
    assert told[0]["environment"] == told[1]["environment"]
    assert told[0] == told[1]
    assert told[1]["folder"] == str(folder) and told[1]["environment"]["SEEN"] == "é" and told[1]["group"]


def test_this_process_is_left_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return dict(os.environ), Path.cwd(), handlers, sys.stdin, sys.stdout, sys.stderr, os.fstat(1), os.fstat(2)

    before = state()
    place: dict[str, Any] = {"cache": folder / "cache", "cwd": folder}
    assert in_process("check", "recipe.toml", **place).code == 0
    assert state() == before
    (folder / "model.py").write_text("import time\nopen('began', 'w').close()\ntime.sleep(600)\n")
    with pytest.raises(subprocess.TimeoutExpired):
        in_process("check", "recipe.toml", **place, timeout=4)
    assert (folder / "began").exists()
    assert state() == before
    assert in_process("plan", "none.toml", **place).code == 2
    assert state() == before
    print("ours")
    assert capfd.readouterr() == ("ours\n", "")


def test_it_imports_no_toolchain_into_the_process_of_the_tests(folder: Path) -> None:
    script = """
import sys
import warm_server
warm_server.everything = lambda: ["torch", "torch._dynamo", "onnxscript"]  # enough for this build
from pathlib import Path
done = warm_server.in_process("build", "recipe.toml", "--out", "out", cache=Path("cache"), cwd=Path.cwd())
print(done.stdout, done.stderr)
heavy = {"torch", "onnx", "onnxruntime", "jax", "executorch", "litert_torch", "sklearn"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else done.code)
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# Answers each line of stdin with the id of the server that a process of this process's came from.
ASKED = """
import sys, time
from pathlib import Path
import warm_server
warm_server.everything = lambda: []
warm_server.share(Path(sys.argv[1]))
for _ in sys.stdin:
    with warm_server.warm_stages():
        started = warm_server.worker.context([]).Process(target=time.sleep, args=(60,), name="asked")
        started.start()
    print(Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()[1], flush=True)
    started.kill()
    started.join()
"""


class Worker:
    """A process of its own that takes the server of a folder, as pytest-xdist's workers do."""

    def __init__(self, folder: Path) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ASKED, folder], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def server(self) -> int:
        asking, telling = self._process.stdin, self._process.stdout
        assert asking is not None and telling is not None
        print(file=asking, flush=True)
        return int(telling.readline())

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()


def ended(process: int) -> bool:
    return bool(select.select([process], [], [], 20)[0])


def test_workers_share_one_server_which_lives_as_long_as_one_of_them(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    shared = first.server()
    server = os.pidfd_open(shared)
    assert second.server() == shared
    first.end()  # which had started it
    assert second.server() == shared
    third = Worker(tmp_path)
    assert third.server() == shared
    second.end()
    assert third.server() == shared and not select.select([server], [], [], 0)[0]
    third.end()
    assert ended(server)
    os.close(server)


def test_a_server_that_was_killed_is_another_for_all(tmp_path: Path) -> None:
    workers = [Worker(tmp_path), Worker(tmp_path)]
    killed = {worker.server() for worker in workers}
    (server,) = map(os.pidfd_open, killed)
    signal.pidfd_send_signal(server, signal.SIGKILL)
    assert ended(server)
    os.close(server)
    found = {worker.server() for worker in workers}
    assert len(found) == 1 and not found & killed
    for worker in workers:
        worker.end()
