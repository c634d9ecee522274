"""Locks that belong to the machine: one place for all users and settings, freed by the kernel, with who holds them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from release_build import SOURCES

from pocketforge.errors import StoreError
from pocketforge.folders import locks_dir
from pocketforge.run.locks import HOST_BENCHMARK, hold, hold_of_machine

NOBODY = 65534
HOLD = """
import os, sys
from pocketforge.run.locks import hold_of_machine
os.setuid(int(sys.argv[1]))
with hold_of_machine("phone 1/2", lambda holder: print(holder, flush=True), give_up=lambda: sys.argv[2] == "ask"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POCKETFORGE_LOCKS_DIR", str(tmp_path / "locks"))
    return tmp_path / "locks"


def no_waiting(holder: str) -> None:
    pytest.fail(f"waited for {holder}")


def test_where_they_are_follows_neither_cache_nor_tmpdir_nor_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POCKETFORGE_LOCKS_DIR", raising=False)
    for name in ("POCKETFORGE_CACHE_DIR", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "USER"):
        monkeypatch.setenv(name, "/elsewhere")
    assert locks_dir() == Path("/tmp/pocketforge-locks")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")
def test_two_users_hold_one_lock_in_turns(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    place = tempfile.TemporaryDirectory(dir="/tmp")  # pytest's folders are for one user alone
    request.addfinalizer(place.cleanup)
    Path(place.name).chmod(0o777)
    folder = Path(place.name, "locks")
    monkeypatch.setenv("POCKETFORGE_LOCKS_DIR", str(folder))
    command = [sys.executable, "-c", HOLD]
    env = {**os.environ, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"}
    for first, second in ((0, NOBODY), (NOBODY, 0)):
        with subprocess.Popen(
            [*command, str(first), "-"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            asked = subprocess.run([*command, str(second), "ask"], env=env, capture_output=True, text=True, check=False)
            assert re.fullmatch(rf"process {holder.pid} \(since [-0-9: ]+\)\n", asked.stdout), asked.stderr
            assert "gave up waiting" in asked.stderr
            holder.kill()  # and the kernel frees it
        after = subprocess.run(
            [*command, str(second), "-"], env=env, input="", capture_output=True, text=True, check=False
        )
        assert after.stdout == "held\n", after.stderr
        (path,) = folder.iterdir()
        assert path.name == "phone%201%2F2.lock"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
        path.unlink()


def test_a_place_that_is_no_folder_is_told_with_the_variable(folder: Path) -> None:
    folder.symlink_to("/tmp")
    with pytest.raises(StoreError, match="Not a directory") as caught, hold_of_machine(HOST_BENCHMARK, no_waiting):
        pytest.fail("held through somebody's link")
    assert "POCKETFORGE_LOCKS_DIR" in caught.value.hint


def test_an_error_of_what_is_done_meanwhile_passes_through(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), hold_of_machine(HOST_BENCHMARK, no_waiting):
        (folder / "missing").read_text()
    with hold_of_machine(HOST_BENCHMARK, no_waiting):
        pass


def test_many_that_want_one_lock_file_have_it_one_by_one(tmp_path: Path) -> None:
    """Also while it is removed and made again between them."""
    path, inside, most = tmp_path / "lock", 0, 0
    for _ in range(3):
        path.unlink(missing_ok=True)

        def work() -> None:
            nonlocal inside, most
            for _ in range(3):
                with hold(path, lambda holder: None):
                    inside += 1
                    most = max(most, inside)
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1
    assert not path.exists()
