"""A build's results appear together: killed at any line, on a full disk, beside another build, over a user's things."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import release_storm
from release_build import SOURCES
from release_storm import found, made, write

from pocketforge import events
from pocketforge.errors import StoreError
from pocketforge.files import exchange
from pocketforge.results import output_folder
from pocketforge.results.output_folder import drafted, take

STORM = [sys.executable, str(Path(release_storm.__file__))]
ENV = {**os.environ, "PYTHONPATH": SOURCES}
OLD, NEW = "release of build 1, report of build 1", "release of build 2, report of build 2"
BETWEEN = {"release of build 1, no report", "release of build 2, no report"}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder whose disk keeps nothing: what is written is waited for a thousand times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def storm(*arguments: object) -> dict[str, Any]:
    done = subprocess.run([*STORM, *map(str, arguments)], env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_kill_at_any_line_leaves_a_whole_release_and_no_report_of_another(memory: Path) -> None:
    told = storm("kill", memory, 4)  # the whole storm is `python tests/unit/release_storm.py kill FOLDER`
    assert told["kills"] > 60
    assert {OLD, NEW} <= set(told["after"]) <= {OLD, NEW, *BETWEEN}, told
    assert set(told["later"]) <= {f"{state}, left: []" for state in (OLD, NEW, *BETWEEN)}, told
    assert told["unkilled"] == NEW


def test_a_kill_at_any_line_of_the_store_leaves_whole_results_that_nobody_holds(memory: Path) -> None:
    told = storm("store", memory, 6)  # the program itself holds each result against its hashes
    assert told["kills"] > 50
    states = {state.partition(",")[0] for state in told["after"]}
    assert {"old - old", "new - old", "new first old"} <= states, told
    assert {state.partition(", left: ")[2] for state in told["after"]} <= {"[]", "['probe']"}, told


def test_where_two_folders_cannot_change_places_in_one_step_the_next_build_puts_the_old_one_back(memory: Path) -> None:
    told = storm("fallback", memory)
    assert told["after"].pop("no release") > 0, "a kill between the two steps, which this test is about"
    assert set(told["after"]) <= {OLD, NEW, *BETWEEN}, told
    assert set(told["later"]) <= {f"{state}, left: []" for state in (OLD, NEW, *BETWEEN)}, told
    assert told["unkilled"] == NEW


def test_a_disk_that_is_full_at_any_byte_leaves_the_old_results(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=512k tmpfs "{tmp_path}"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and a kernel that lets users mount in a namespace of their own")
    script = f'{mount} && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, *STORM, "full", str(tmp_path)],
        env={**ENV, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["after"]) == {f"{OLD}, left: []"}, told
    assert set(told["said"]) == {"no space left on the disk of OUT"}, told
    assert sum(told["said"].values()) > 5
    assert told["at last"] == NEW


# What a rename answers when it fails, and nothing of the swap's own making.
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_swap_that_fails_in_its_middle_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    out = tmp_path / "out"
    write(out, made(tmp_path, 1))
    (out / "failed").mkdir()
    results = made(tmp_path, 2)
    left, real = number, Path.rename

    def rename(path: Path, to: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(output_folder, "exchange", lambda *_: False)
    with pytest.raises(StoreError, match="Input/output error"):
        write(out, results)
    assert found(out) == OLD
    assert sorted(path.name for path in out.iterdir()) == ["failed", "release", "report.html", "report.json", "why"]


def test_an_interrupt_in_the_swap_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def interrupted(one: Path, other: Path) -> bool:
        signal.raise_signal(signal.SIGINT)
        return exchange(one, other)

    write(out, made(tmp_path, 1))
    monkeypatch.setattr(output_folder, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out, made(tmp_path, 2))
    assert found(out) == NEW
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_before_the_swap_leaves_the_old_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, made(tmp_path, 1))
    results = made(tmp_path, 2)
    outcome = results[2]
    (outcome.entries["export"].files / "model.ort").write_bytes(b"another")
    with pytest.raises(StoreError, match=r"net\.ort is not the file that was verified"):
        write(out, results)
    assert found(out) == OLD


@pytest.mark.parametrize("thing", ["file", "link", "dangling", "folder"])
def test_what_lies_in_the_place_of_the_release_makes_way(tmp_path: Path, thing: str) -> None:
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    out.mkdir()
    theirs.mkdir()
    (theirs / "note").write_text("mine")
    place = out / "release"
    if thing == "file":
        place.write_text("mine")
    elif thing == "folder":
        shutil.copytree(theirs, place)
    else:
        place.symlink_to(theirs if thing == "link" else tmp_path / "nothing")
    write(out, made(tmp_path, 2))
    assert found(out) == NEW
    assert (theirs / "note").read_text() == "mine", "what a link points to is not ours"
    assert sorted(path.name for path in out.iterdir()) == ["release", "report.html", "report.json", "why"]


def test_what_killed_builds_left_goes_and_nothing_else(tmp_path: Path) -> None:
    ours = [".release." + "0a" * 16, ".failed." + "1" * 32, ".checkpoint." + "f" * 32, ".report.json." + "3" * 32,
            ".probe-" + "2" * 32, ".pocketforge-" + "4" * 32]  # fmt: skip
    theirs = [".release.old", ".release." + "A" * 32, ".pocketforge-notes", "release.bak", ".checkpoint"]
    for name in (*ours, *theirs[:1], *theirs[3:]):
        (tmp_path / name / "below").mkdir(parents=True)
    for name in theirs[1:3]:
        (tmp_path / name).write_text("a file")
    with take(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*theirs, ".pocketforge.lock"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


HOLDER = """
import sys
from pathlib import Path
from pocketforge.results.output_folder import drafted, take
with take(Path(sys.argv[1])), drafted(Path(sys.argv[1])) as draft:
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["it is done", "it is killed"])
def test_a_second_build_on_one_folder_waits_and_says_for_whom(tmp_path: Path, end: str) -> None:
    told: list[events.Event] = []
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env={**ENV, "TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    entered: list[bool] = []

    def second() -> None:
        with take(tmp_path, told.append) as waited:
            entered.append(waited)
            assert not list(tmp_path.glob(".pocketforge-*"))

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.3)  # time enough to come in, were it let
    assert not entered
    assert list(tmp_path.glob(".pocketforge-*")), "the draft of a build that lives"
    if end == "it is done":
        first.communicate("")
    else:
        first.kill()
        first.communicate()
    thread.join(30)
    assert entered == [True]
    (waiting,) = told
    assert isinstance(waiting, events.Waiting)
    assert waiting.message.startswith(f"process {first.pid} (since 20")
    assert f"builds into {tmp_path}; this build goes on when it is done" in waiting.message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot write to .*: Not a directory") as caught,
        take(tmp_path / "file" / "x"),
    ):
        pytest.fail("taken")
    assert "--out" in caught.value.hint


def test_a_draft_leaves_nothing_when_its_maker_fails(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with drafted(tmp_path) as draft:
            (draft.folder / "report.json").write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
