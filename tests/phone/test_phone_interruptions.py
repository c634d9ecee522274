"""Links that drop, phones that restart, measuring processes that end: runs are picked up, and nothing stays."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from measuring import QUICK, Heard, job, left_on, link_to, until
from phone import MakePhone, Phone

from android_bench import errors
from android_bench.detached import run_detached
from android_bench.readings import read_heat
from android_bench.session import measure
from android_bench.settings import measuring_settings
from android_bench.workplace import open_workplace

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("measure_for_ever.py")


def kill_adbd(phone: Phone) -> None:
    phone.kill_adbd()
    time.sleep(0.5)
    phone.start_adbd()


def freeze(phone: Phone) -> None:
    phone.stall()
    time.sleep(1.5)
    phone.heal()


def unplug(phone: Phone) -> None:
    phone.go_offline()
    time.sleep(2)
    phone.heal()


@contextlib.contextmanager
def meanwhile(phone: Phone, running: str, act: Callable[[Phone], None]) -> Iterator[None]:
    """Does it as soon as a process of that command line runs on the phone; what it raises fails the test."""
    failed: list[BaseException] = []

    def wait_and_act() -> None:
        try:
            until(lambda: running in phone.ps())
            act(phone)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed, failed


@pytest.mark.parametrize("trouble", [Phone.cut, unplug, freeze, kill_adbd])
def test_a_run_goes_on_without_the_link_and_is_picked_up(shared_phone: Phone, trouble: Callable[[Phone], None]) -> None:
    script = "echo started >>starts; sleep 2.25; cat starts"
    with open_workplace(link_to(shared_phone), Heard()) as place:
        with meanwhile(shared_phone, "sleep 2.25", trouble):
            ended = run_detached(place, ["sh", "-c", script], folder=place.folder, cpus=(1,))
        assert (ended.code, ended.stdout) == (0, "started\n")
    assert left_on(shared_phone) == {}


def test_what_android_kills_with_adbd_is_missed(phone: Phone) -> None:
    """init ends all that adbd started: the run is gone, and so is the watchdog; this computer cleans up."""

    def kill_all(phone: Phone) -> None:
        phone.kill_adbd(with_children=True)
        phone.start_adbd()

    with (
        pytest.raises(errors.RunnerFailed, match=r"gone from .* without a trace"),
        open_workplace(link_to(phone), Heard()) as place,
        meanwhile(phone, "sleep 77", kill_all),
    ):
        run_detached(place, ["sleep", "77"], folder=place.folder)
    assert left_on(phone) == {}


def test_a_phone_that_stays_away_cleans_itself_up(phone: Phone) -> None:
    heard, link = Heard(), link_to(phone)
    with (
        pytest.raises(errors.LinkLost, match=r"out of reach for \d+ s while the runner ran on it"),
        open_workplace(link, heard, grace_s=6, close_wait_s=0.5) as place,
        measuring_settings(place, read_heat(link), undo_wait_s=0.5),
        meanwhile(phone, "sleep 88", Phone.go_offline),
    ):
        run_detached(place, ["sleep", "88"], folder=place.folder, reconnect_s=1)
    assert heard.about("cannot be reached to clean up") and heard.about("within 7 s of our last contact")
    assert heard.about("stay awake while plugged in: not undone yet")
    until(lambda: left_on(phone) == {})
    phone.heal()


def test_a_computer_that_slept_too_long_finds_its_folder_gone(phone: Phone) -> None:
    with open_workplace(link_to(phone), Heard(), grace_s=2) as place:
        until(lambda: left_on(phone) == {})
        with pytest.raises(errors.SessionGone, match="when nothing is heard of this computer for 2 s"):
            place.run(":")
    assert left_on(phone) == {}


def test_a_restart_between_rounds_ends_the_session_and_leaves_nothing(phone: Phone, tmp_path: Path) -> None:
    heard = Heard()
    heard.then["round 1,"] = phone.reboot
    with pytest.raises(errors.Rebooted, match="has restarted in mid-session"):
        measure(link_to(phone), [job(tmp_path)], dataclasses.replace(QUICK, rounds=3), heard)
    assert left_on(phone) == {}


@contextlib.contextmanager
def measuring(phone: Phone, folder: Path, grace_s: int) -> Iterator[subprocess.Popen[str]]:
    """A process that is in its second round at least."""
    argv = [sys.executable, str(PROGRAM), phone.serial, str(folder), str(grace_s)]
    paths = os.pathsep.join([str(ROOT), str(PROGRAM.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "round 1," in line:
                break
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_an_ended_process_takes_everything_with_it(
    shared_phone: Phone, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with measuring(shared_phone, tmp_path, 900) as process:
        assert {"files", "processes", "fixed performance", "stays on"} <= set(left_on(shared_phone))
        process.send_signal(number)
        _, words = process.communicate(timeout=60)
        assert process.returncode == code, words
    assert left_on(shared_phone) == {}


def test_a_second_interrupt_does_not_stop_the_cleaning_up(shared_phone: Phone, tmp_path: Path) -> None:
    with measuring(shared_phone, tmp_path, 900) as process:
        shared_phone.stall()  # so that it has not cleaned up before the second one
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert any("one moment" in line for line in process.stdout)
        shared_phone.heal()
        _, words = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT, words
    assert left_on(shared_phone) == {}


def test_after_a_kill_the_phone_cleans_up_by_itself(phone: Phone, tmp_path: Path) -> None:
    with measuring(phone, tmp_path, 4) as process:
        assert set(left_on(phone)) >= {"files", "processes", "fixed performance", "stays on"}
        process.kill()
        process.wait()
        until(lambda: left_on(phone) == {})


def test_what_a_kill_and_a_restart_left_the_next_session_sweeps_up(phone: Phone, tmp_path: Path) -> None:
    with measuring(phone, tmp_path, 900) as process:
        process.kill()
        process.wait()
    phone.reboot()
    assert set(left_on(phone)) == {"files", "stays on"}
    heard = Heard()
    with open_workplace(link_to(phone), heard):
        assert heard.about("taking over from") and "the phone has restarted since" in heard[0]
        assert heard.about("removed what an earlier session left")
        assert phone.setting("global", "stay_on_while_plugged_in") == "0"
    assert left_on(phone) == {}


def test_a_killed_session_does_not_keep_the_next_one_waiting(make_phone: MakePhone, tmp_path: Path) -> None:
    phone = make_phone()
    with measuring(phone, tmp_path, 900) as process:
        process.kill()
        process.wait()
    heard = Heard()
    with open_workplace(link_to(phone), heard) as place:
        assert "its process has ended" in heard[0]
        assert phone.list("/data/local/tmp") == (place.folder.rpartition("/")[2], "pocketforge.lock")
        assert not phone.fixed_performance and phone.setting("global", "stay_on_while_plugged_in") == "0"
    assert left_on(phone) == {}
