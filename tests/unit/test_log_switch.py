"""The gate before a count's windows: it opens in any case, ends with whoever keeps it, and only a qemu is switched."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pocketforge.devices.emulator.log_switch import gate, turn_on


@contextlib.contextmanager
def program(code: str) -> Iterator[int]:
    """A Python that has done what `code` says and sleeps."""
    code = f"import sys, threading, time\n{code}\nsys.stdout.write('.')\nsys.stdout.flush()\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1)
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("turned", [True, False])
def test_it_opens_whether_or_not_the_log_was_turned_on(turned: bool) -> None:
    asked: list[int] = []

    def turn(process: int) -> bool:
        asked.append(process)
        return turned

    with gate(turn) as made, socket.socket(fileno=socket.dup(made.descriptor)) as runner:
        made.started(7)
        runner.send(b"\0")
        runner.settimeout(20)
        assert runner.recv(1) == b"\0"
        assert made.opened is turned
    assert asked == [7]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_opens_for_a_switch_that_fails_and_says_the_log_is_off() -> None:
    def turn(process: int) -> bool:
        raise ValueError(process)

    with gate(turn) as made, socket.socket(fileno=socket.dup(made.descriptor)) as runner:
        made.started(7)
        runner.send(b"\0")
        runner.settimeout(20)
        assert runner.recv(1) == b"\0"
    assert not made.opened


def test_it_ends_with_a_runner_that_never_came_or_was_never_known() -> None:
    with gate(lambda process: True) as made:
        made.started(7)
    assert not made.opened
    with gate(turn_on) as made, socket.socket(fileno=socket.dup(made.descriptor)) as runner:
        runner.send(b"\0")
    assert not made.opened


def test_a_program_that_is_no_quiet_qemu_is_left_alone() -> None:
    with program("") as process:
        assert not turn_on(process)
    assert not turn_on(process)  # it is gone
    with program("for _ in range(2): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()") as process:
        assert not turn_on(process)
