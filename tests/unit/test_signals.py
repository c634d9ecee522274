"""What a signal ended is said to be so, with the signal and what it mostly means, wherever we run a program."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pocketforge.commands.bench_files import reason_of
from pocketforge.commands.doctor import import_trouble
from pocketforge.devices import tiny_programs
from pocketforge.devices.emulator import commands, qemu_binary
from pocketforge.errors import DeviceUnavailable, ToolFailed, describe_exit

WORDS = {
    signal.SIGKILL: "SIGKILL (killed; often out of memory)",
    signal.SIGSEGV: "SIGSEGV (crashed: it read or wrote outside its memory)",
    signal.SIGILL: "SIGILL (illegal instruction; is it made for a processor that has more than this one?)",
    signal.SIGABRT: "SIGABRT (it gave up by itself)",
    signal.SIGTERM: "SIGTERM",
}


@pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)
def test_a_signal_has_its_name_and_what_it_means(number: signal.Signals) -> None:
    assert describe_exit(-number) == WORDS[number]
    error = ToolFailed(["runner"], -number, "loading\nError: almost")
    assert error.signal == WORDS[number] and error.message.startswith(f"runner ended with {WORDS[number]}:")
    assert reason_of(error).splitlines()[0] == WORDS[number]
    assert reason_of(ToolFailed(["runner"], -number, "")) == WORDS[number]


def test_what_ended_by_itself_has_none() -> None:
    error = ToolFailed(["runner"], 3, "Error: no")
    assert (error.signal, describe_exit(3), reason_of(error)) == ("", "exit code 3", "Error: no")


def dying(folder: Path, number: signal.Signals) -> Path:
    """A real program that says something and is ended by a signal."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\necho about to >&2\nkill -{number.name.removeprefix('SIG')} $$\n")
    path.chmod(0o755)
    return path


def test_programs_that_we_run_say_which_signal_ended_them(tmp_path: Path) -> None:
    program = dying(tmp_path, signal.SIGSEGV)
    words = WORDS[signal.SIGSEGV]
    with pytest.raises(ToolFailed) as failed:
        commands.run([os.fspath(program)], cwd=tmp_path, doing="dying", emit=lambda _: None, hint="")
    assert failed.value.signal == words
    with pytest.raises(qemu_binary.UnfitQemuError) as unfit:
        qemu_binary.examine(program)
    assert str(unfit.value) == f"does not start: {words}"
    with pytest.raises(DeviceUnavailable) as unavailable:
        tiny_programs.run([os.fspath(program)])
    assert unavailable.value.message == f"{program} ended with {words}"
    # An instruction that an emulated processor lacks is an answer to the question.
    assert tiny_programs.run([os.fspath(dying(tmp_path, signal.SIGILL))]).returncode == -signal.SIGILL


def test_a_library_that_kills_its_importer_is_said_with_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_library.py").write_text(
        "import os, sys\nprint('Illegal memory', file=sys.stderr)\nos.kill(os.getpid(), 4)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert import_trouble(["deadly_library"]) == f"installed, but does not import: {WORDS[signal.SIGILL]}"


def test_a_library_that_does_not_import_is_said_with_the_innermost_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library of models says "Failed to import …", and why only above that."""
    (tmp_path / "inner_library.py").write_text("raise RuntimeError('operator nms does not exist\\nsee the manual')\n")
    (tmp_path / "outer_library.py").write_text(
        "try:\n    import inner_library\nexcept RuntimeError as error:\n"
        "    raise ImportError('Failed to import models; read https://…') from error\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    said = "installed, but does not import: RuntimeError: operator nms does not exist"
    assert import_trouble(["json", "outer_library"]) == said
    assert import_trouble(["json"]) == ""
