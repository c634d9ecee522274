"""The fork server of stages: it ends with its last user and starts again; and whose modules stages find."""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

import pytest

from pocketforge import folders
from pocketforge.run import stage_server
from pocketforge.run.stage_server import StageProcess, StageServer


def started(server: StageServer) -> int:
    """The server's process, after one of its own has run."""
    process = StageProcess(target=time.sleep, args=(0,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    pid = vars(server)["_forkserver_pid"]
    assert isinstance(pid, int)
    assert Path(f"/proc/{pid}").exists()
    return pid


def test_it_ends_with_its_last_user_and_starts_again() -> None:
    server = StageServer()
    others = vars(forkserver)["_forkserver"]
    before = dict(vars(others))
    with stage_server.replaced(server):
        with server.in_use(), server.in_use():
            first = started(server)
            with server.in_use():
                pass
            assert started(server) == first, "another user's end is not its own"
        assert not Path(f"/proc/{first}").exists()
        with server.in_use():
            second = started(server)
            server.kill()  # as a build does that is stopped while libraries are imported
        assert second != first and not Path(f"/proc/{second}").exists()
        with server.in_use():
            pass  # a build that needs no stage
    assert vars(others) == before, "the program's own server is left alone"
    assert stage_server.PRELOAD_VARIABLE not in os.environ and "PYTHONSAFEPATH" not in os.environ


def test_a_fork_of_its_process_has_one_of_its_own() -> None:
    server = StageServer()
    with stage_server.replaced(server), server.in_use():
        parents = started(server)
        child = os.fork()
        if not child:
            code = 1
            try:
                with server.in_use():
                    code = 0 if started(server) != parents else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert started(server) == parents


def test_stages_find_no_modules_in_the_working_folder_or_the_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, scripts, installed = (tmp_path / name for name in ("here", "scripts", "lib/site-packages"))
    for folder in (here, scripts, installed):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    main = ModuleType("__main__")
    main.__file__ = str(scripts / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    others = [str(tmp_path), str(installed), str(Path(folders.__file__).parents[1])]
    path = ["", str(scripts), *others, str(here), f"{here}/../scripts"]
    assert folders.own_path(path) == others
    main.__file__ = str(installed / "tool.py")  # a program that was installed as a file
    assert folders.own_path([str(scripts), *others]) == [str(scripts), *others]
    del main.__file__  # a notebook, `python -c`
    assert folders.own_path(path) == [str(scripts), *others, f"{here}/../scripts"]


def test_the_users_folders_stand_behind_during_a_call_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/one", *dict.fromkeys(sys.path)])
    before = list(sys.path)
    with folders.own_modules():
        assert sys.path == [*before[1:], ""]
        inner: list[list[str]] = []
        thread = threading.Thread(target=folders.own_modules()(lambda: inner.append(list(sys.path))))
        thread.start()
        thread.join()
        assert inner == [sys.path] == [[*before[1:], ""]], "a second call changes nothing, nor does its end"
    assert sys.path == before
    with folders.own_modules():
        # What others do with it meanwhile is kept.
        sys.path[:0] = ["/first", "/second"]
        sys.path.append("/last")
        sys.path.remove(before[1])
    assert sys.path == ["/first", "/second", "", *before[2:], "/last"]
