"""Exit codes say what happened, whoever reads: 1 only for a verdict that is no, 70 for what nobody foresaw."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from release_build import SOURCES

from pocketforge.cli.main import COMMANDS, main
from pocketforge.errors import ModelError, StoreError
from pocketforge.run.store import Store

PRINTS = (
    ("--version",),
    ("--help",),
    *((name, "--help") for name in COMMANDS),
    ("plan", "shipped:digits_cnn"),
    ("plan", "shipped:digits_cnn", "--json"),
    ("cache", "list"),
    ("cache", "dir"),
    ("device", "profiles"),
    ("completion", "bash"),
)


def raising(error: BaseException):
    def summaries(self):
        raise error

    return summaries


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyError("x"), 70, r"internal error: KeyError: 'x'"),
        (RecursionError("deep"), 70, "internal error: RecursionError: deep"),
        (EOFError("torn"), 70, "internal error: EOFError: torn"),
        (SystemExit(1), 70, "internal error: SystemExit: 1"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), 70, "internal error: Unicode"),
        (OSError(22, "Invalid argument"), 70, "internal error: OSError"),
        (PermissionError(13, "Permission denied", "/a/b"), 3, "cannot use /a/b: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "/a\nb"), 3, r"cannot use /a"),
        (OSError(5, "Input/output error", b"/a"), 3, "cannot use /a: Input/output error"),
        (OSError(24, "Too many open files"), 3, "Too many open files"),
        (BrokenPipeError(32, "Broken pipe"), 3, "Broken pipe; "),
        (MemoryError(), 3, "out of memory"),
    ],
)
def test_what_nobody_foresaw_is_one_line_with_a_log(cli, cache, monkeypatch, error, code, said):
    monkeypatch.setattr(Store, "summaries", raising(error))
    done = cli("cache", "list")
    assert done.code == code and done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert re.match(f"error: {said}", first), done.stderr
    assert all(line.startswith("  ") for line in rest) and "Traceback" not in done.stderr
    told = re.search(r"the traceback is in (\S+)", done.stderr)
    assert told, done.stderr
    log = Path(told[1])
    assert log.parent == cache / "logs" and log.stat().st_mode & 0o077 == 0
    text = log.read_text()
    assert "summaries" in text and "arguments: ['cache', 'list']" in text


def test_a_path_that_no_system_opens_is_wrong_usage(cli, tmp_path):
    for path in ("n" * 300, "a/" * 3000):
        for args in (
            ("plan",), ("check",), ("bench",), ("bench", path + ".onnx"), ("gate",), ("report",), ("inspect",),
            ("model", "show"), ("sparse", "pack"), ("codebook", "unpack"), ("device", "profiles"), ("why", "t"),
        ):  # fmt: skip
            done = cli(*args, *([path] if args[-1] != path + ".onnx" else []))
            assert (done.code, done.stdout) == (2, ""), (args, done)
            assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 5, done.stderr


def test_the_log_is_written_elsewhere_where_the_cache_is_none_and_old_ones_go(cli, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "summaries", raising(KeyError("x")))
    logs = cache / "logs"
    logs.mkdir(parents=True)
    for number in range(30):
        (logs / f"error-2000{number:02}01-000000-1.log").touch()
    assert cli("cache", "list").code == 70
    assert len(list(logs.iterdir())) == 20
    for path in logs.iterdir():
        path.unlink()
    logs.rmdir()
    logs.write_text("in the way")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert f"the traceback is in {tmp_path}/error-" in cli("cache", "list").stderr
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(logs / "x"))
    done = cli("cache", "list")
    assert done.code == 70 and len(done.stderr.splitlines()) == 1
    monkeypatch.setenv("POCKETFORGE_DEBUG", "1")
    assert "Traceback" in cli("cache", "list").stderr


@pytest.mark.parametrize("error", [ModelError("two\nverdict  PASS", "three"), StoreError("two\n\x1b[2J")])
def test_no_line_of_an_error_passes_for_another(cli, monkeypatch, error):
    monkeypatch.setattr(Store, "summaries", raising(error))
    lines = cli("cache", "list").stderr.splitlines()
    assert lines[0] == "error: two" and all(line.startswith("  ") for line in lines[1:])
    assert "\x1b" not in "".join(lines)


def test_a_gone_reader_changes_no_exit_code(cache, monkeypatch):
    for arguments in (*PRINTS, ("plan", "nosuch.toml"), ("nosuch",), ("cache", "nosuch")):
        codes = []
        for gone in (False, True):
            streams = []
            for _ in range(2):
                reading, writing = os.pipe()
                streams.append(os.fdopen(writing, "w"))
                os.close(reading) if gone else streams.append(os.fdopen(reading))
            with monkeypatch.context() as patch:
                out, err = streams[0], streams[1 if gone else 2]
                patch.setattr(sys, "stdout", out)
                patch.setattr(sys, "stderr", err)
                codes.append(main(list(arguments)))
            for stream in streams:
                stream.close()
        assert codes[0] == codes[1], (arguments, codes)


def test_a_full_disk_under_stdout_is_told(cache, capsys, monkeypatch):
    for arguments in (("plan", "shipped:digits_cnn"), ("plan", "shipped:digits_cnn", "--json"), ("--version",)):
        with open("/dev/full", "w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            assert main(list(arguments)) == 3, arguments
        assert capsys.readouterr().err == "error: cannot write to stdout: No space left on device\n", arguments


def test_an_installation_that_is_not_whole_is_said_in_one_line(cache, tmp_path):
    """Case E1: not even the command line can be imported (here another click is found first)."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "click.py").write_text("")
    path = os.pathsep.join([str(tmp_path / "other"), SOURCES])
    done = subprocess.run(
        [sys.executable, "-m", "pocketforge", "plan"],
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 70 and done.stdout == ""
    assert re.fullmatch(r"error: internal error: AttributeError: module 'click'.*the traceback is in .*\n", done.stderr)


def test_the_program_itself_without_streams_and_with_a_reader_that_leaves(cache, tmp_path):
    environment = {**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": SOURCES}
    program = f"{sys.executable} -m pocketforge plan"
    for line, code in (
        (f"{program} shipped:digits_cnn <&- >&- 2>&-", "0"),
        (f"{program} nosuch.toml <&- >&- 2>&-", "2"),
        (f"{program} shipped:digits_cnn | head -1; exit ${{PIPESTATUS[0]}}", "0"),
    ):
        done = subprocess.run(
            ["bash", "-c", line], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (str(done.returncode), done.stderr) == (code, ""), line
