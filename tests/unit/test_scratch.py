"""Temporary folders of ours are known by a lock: the living keep theirs, the dead's go, what is not ours stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from release_build import SOURCES

from pocketforge.run.scratch import Marked, lasting_tmpdir, own_tmpdir, scratch, sweep

DIES = (
    "import os, sys; from pocketforge.run.scratch import Marked; m = Marked('', sys.argv[1]); os.kill(os.getpid(), 9)"
)
LEAVES = """
import multiprocessing.util, os, sys, tempfile
from pocketforge.run.scratch import lasting_tmpdir, own_tmpdir
with own_tmpdir():
    print(multiprocessing.util.get_temp_dir())
    print(tempfile.mkdtemp(), tempfile.gettempdir() == os.environ["TMPDIR"], lasting_tmpdir(), sep="\\n")
print(tempfile.gettempdir())
"""


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_only_folders_of_the_dead_are_swept(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], env={**os.environ, "PYTHONPATH": SOURCES}, check=False)
    (dead,) = tmp_path.iterdir()
    (dead / "deep" / "in").mkdir(parents=True)
    old = time.time() - 2 * 86_400
    for name in ("pocketforge-empty", "pocketforge-new", "pocketforge-full", "pocketforge-half", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "pocketforge-full" / "log").touch()
    (tmp_path / "pocketforge-half" / ".lock.new").touch()
    (tmp_path / "other" / ".lock").touch()
    (tmp_path / "pocketforge-file").touch()
    (tmp_path / "pocketforge-link").symlink_to(tmp_path / "other")
    for name in ("pocketforge-empty", "pocketforge-full", "pocketforge-half"):
        os.utime(tmp_path / name, (old, old))
    living = Marked("", str(tmp_path))
    sweep(tmp_path)
    theirs = ["other", "pocketforge-file", "pocketforge-full", "pocketforge-link", "pocketforge-new"]
    assert names(tmp_path) == sorted([*theirs, living.path.name])
    assert names(tmp_path / "other") == [".lock"]
    living.remove()
    assert names(tmp_path) == theirs


def test_what_is_kept_is_never_swept(tmp_path: Path) -> None:
    logs = Marked("why-", str(tmp_path))
    (logs.path / "export.log").touch()
    logs.keep()
    sweep(tmp_path)
    assert names(logs.path) == ["export.log"]
    assert logs.path.name.startswith("pocketforge-why-")


@pytest.mark.parametrize("letters", [10, 120])
def test_all_temporary_files_of_a_process_are_in_one_folder_and_gone_with_it(letters: int) -> None:
    """Sockets' too, but where the path would be longer than a socket's may be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        place = Path(short) / ("x" * letters)
        place.mkdir()
        env = {**os.environ, "PYTHONPATH": SOURCES, "TMPDIR": str(place)}
        done = subprocess.run([sys.executable, "-c", LEAVES], env=env, capture_output=True, text=True, check=False)
        sockets, left, same, lasting, after = done.stdout.splitlines()
        assert Path(left).parent.parent == place
        assert sockets == str(Path(left).parent) if letters == 10 else Path(sockets).parent == Path("/tmp")
        assert (same, lasting, after) == ("True", str(place), str(place))
        assert (names(place), Path(sockets).exists(), done.stderr) == ([], False, "")


@pytest.mark.parametrize("length", [67, 70, 75, 200])
def test_sockets_fit(tmp_path: Path, length: int) -> None:
    """A TMPDIR so long that a folder with a longer name in it leaves no room for a socket's name."""
    place = Path("/tmp") / f"{tmp_path.parent.name}-{os.getpid()}".ljust(length - len("/tmp/"), "x")
    place.mkdir()
    code = LEAVES.replace(
        "print(tempfile.mkdtemp", "multiprocessing.connection.Listener(family='AF_UNIX'); print(tempfile.mkdtemp"
    )
    code = code.replace("multiprocessing.util, ", "multiprocessing.util, multiprocessing.connection, ")
    try:
        env = {**os.environ, "PYTHONPATH": SOURCES, "TMPDIR": str(place)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr, names(place)) == (0, "", [])
    finally:
        shutil.rmtree(place)


def test_tmpdir_is_as_before_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = tempfile.tempdir
    with own_tmpdir(), own_tmpdir():
        (inside,) = tmp_path.iterdir()
        assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(inside)
        with scratch() as folder:
            assert folder.parent == inside
        assert not folder.exists()
        assert lasting_tmpdir() == str(tmp_path)
    assert (os.environ["TMPDIR"], tempfile.tempdir) == (str(tmp_path), before)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    with own_tmpdir():
        assert lasting_tmpdir() == before
