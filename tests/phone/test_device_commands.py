"""`pocketforge device list | show | watch | doctor` with phones, by the real adb."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from phone import Phone

from pocketforge.cli.main import main
from pocketforge.devices import phones
from pocketforge.errors import DeviceError, DeviceTimeout, DeviceUnavailable, PocketforgeError

if TYPE_CHECKING:  # at run time another folder's conftest may have that name
    from phone import MakePhone

ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)

    def rows(self) -> dict[str, dict[str, str]]:
        return {row["name"]: row for row in self.json()}


Device = Callable[..., Done]


@pytest.fixture
def device(capsys: pytest.CaptureFixture[str]) -> Device:
    """Run `pocketforge device …` in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main(["device", *arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


class Watching:
    """A command in a process of its own, whose lines are read as they come."""

    def __init__(self, argv: list[str], stdout: int) -> None:
        self.process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()

    def read(self, stream: Any) -> None:
        with contextlib.suppress(OSError):  # how a pty says that the other end is gone
            for line in stream:
                self.lines.put(line)

    def until(self, holds: Callable[[str], bool], within_s: float = 40) -> str:
        try:
            while not holds(line := self.lines.get(timeout=within_s)):
                pass
        except queue.Empty:
            pytest.fail(f"not seen within {within_s} s; ended with {self.process.poll()}")
        return line

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, stderr = self.process.communicate(timeout=40)
        return self.process.returncode, stderr


@contextlib.contextmanager
def watching(*arguments: str, terminal: bool = False) -> Iterator[Watching]:
    argv = [sys.executable, "-m", "pocketforge", "device", "watch", *arguments]
    read_end, write_end = pty.openpty() if terminal else os.pipe()
    with open(read_end, errors="replace") as stream:
        watched = Watching(argv, write_end)
        os.close(write_end)
        reader = threading.Thread(target=watched.read, args=(stream,))
        reader.start()
        try:
            yield watched
        finally:
            watched.process.kill()
            watched.process.communicate()
            reader.join(20)


def test_list_shows_each_phone_s_state_and_what_to_do(make_phone: MakePhone, device: Device) -> None:
    ready, recovery, refusing = make_phone(), make_phone(state="recovery"), make_phone(connect=False)
    refusing.unauthorized()
    refusing.connect()
    found = device("list", "--json").rows()
    assert found["host"]["state"] == "ready"
    assert (found[ready.serial]["state"], found[ready.serial]["what"]) == ("ready", "Pixel 8")
    assert found[ready.serial]["problem"] == found[ready.serial]["fix"] == ""
    assert "recovery" in found[recovery.serial]["problem"]
    assert "adb reboot" in found[recovery.serial]["fix"]
    assert "has not said yes" in found[refusing.serial]["problem"]
    text = device("list").stdout
    assert f"{ready.serial:<16} phone        ready\n" in text
    assert 'tap "Allow"' in text


def test_list_without_phones_or_without_adb(device: Device, adb_server: object, monkeypatch: Any) -> None:
    row = device("list", "--json").rows()["adb"]
    assert row["state"] == "no phones are connected"
    assert "USB debugging" in row["what"]
    monkeypatch.setenv("POCKETFORGE_ADB", "/nowhere/adb")
    done = device("list", "--json")
    assert (done.code, done.stderr) == (0, "")
    assert "/nowhere/adb (POCKETFORGE_ADB) is not a program" in done.rows()["adb"]["state"]
    assert "apt install adb" in done.rows()["adb"]["what"]


def test_show(make_phone: MakePhone, device: Device) -> None:
    phone = make_phone("galaxy_s22", cpus=None, properties={"ro.product.model": "SM-S901X"})
    done = device("show", phone.serial, "--json")
    found = done.json()
    assert (done.code, done.stderr) == (0, "")
    assert set(found) == {"facts", "heat", "profile", "matched_by", "mismatches"}
    assert (found["profile"], found["matched_by"]) == ("galaxy-s22", "device")
    assert found["facts"]["soc"] == "SM8450"
    assert found["heat"]["skin_c"] == 31.2
    text = device("show").stdout
    assert "SoC              QTI SM8450 (platform taro)\n" in text
    assert "big cores        CPU 7, cortex-x2, 0.8064 to 2.9952 GHz, capacity 1024\n" in text
    assert "profile          galaxy-s22 (Samsung Galaxy S22 (Snapdragon)), by its device name\n" in text
    assert "battery          80 %, 28.7 °C, charging\n" in text


def test_a_phone_that_only_shares_its_chip_with_a_profile_is_said_to(make_phone: MakePhone, device: Device) -> None:
    make_phone(cpus=None, properties={"ro.product.device": "husky", "ro.product.model": "Pixel 8 Pro"})
    text = device("show").stdout
    assert "profile          pixel8 (Google Pixel 8), by its SoC\n" in text
    assert "! the phone is a Pixel 8 Pro (husky), not a Google Pixel 8\n" in text


def test_which_phone(make_phone: MakePhone, device: Device) -> None:
    for arguments in (["show"], ["watch"]):
        done = device(*arguments)
        assert (done.code, done.stdout) == (4, "")
        assert done.stderr.startswith("error: adb knows no phone\n  hint: plug one in with USB debugging on")
    first, second = make_phone(), make_phone()
    done = device("show")
    assert done.code == 4
    assert f"{first.serial} (device)" in done.stderr
    assert f"{second.serial} (device)" in done.stderr
    assert "name one, or set ANDROID_SERIAL" in done.stderr
    assert device("show", second.serial, "--json").json()["facts"]["serial"] == second.serial
    assert "adb knows no phone 127.0.0.1:1" in device("show", "127.0.0.1:1").stderr
    assert "is no serial" in device("show", "--", "-x; reboot").stderr


def test_watch_says_that_the_link_is_lost_and_goes_on(make_phone: MakePhone) -> None:
    phone = make_phone()
    with watching(phone.serial, "--interval", "0.2", "--json") as watched:
        row = json.loads(watched.until(lambda line: True))
        assert set(row) == {"time_s", "lost", "clocks", "heat"}
        assert (row["lost"], row["clocks"]["current_ghz"], row["heat"]["skin_c"]) == (
            "",
            {"0": 1.704, "1": 2.914},
            31.2,
        )
        phone.set_cap(1, 1.8)
        phone.set_thermal(3, 45.0)
        row = json.loads(watched.until(lambda line: json.loads(line)["heat"]["thermal_status"] == 3))
        assert (row["clocks"]["cap_ghz"]["1"], row["heat"]["skin_c"]) == (1.8, 45.0)
        phone.go_offline()
        row = json.loads(watched.until(lambda line: bool(json.loads(line)["lost"])))
        assert set(row) == {"time_s", "lost"}
        phone.heal()
        watched.until(lambda line: not json.loads(line)["lost"])
        assert watched.interrupt() == (130, "")


def test_watch_on_a_terminal_draws_a_table_and_ends_cleanly(make_phone: MakePhone) -> None:
    phone = make_phone()
    phone.set_cap(1, 1.8)
    with watching("--interval", "0.2", terminal=True) as watched:
        watched.until(lambda line: "1.80 GHz, capped to 1.80 of 2.91" in line)
        watched.until(lambda line: "thermal status" in line and "0 (none)" in line)
        assert watched.interrupt() == (130, "")


def test_watch_ends_after_so_many_looks(make_phone: MakePhone, device: Device) -> None:
    make_phone()
    done = device("watch", "--count", "2", "--interval", "0.1")
    line = "big 2.91 GHz of 2.91; little 1.70 GHz of 1.70; thermal status 0; skin 31.2 °C; CPU 42.0 °C; "
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (line + "battery 80 %, 28.7 °C, charging\n") * 2


def test_watch_ends_when_waiting_does_not_help(phone: Phone) -> None:
    with watching("--interval", "0.2") as watched:
        watched.until(lambda line: line.startswith("big "))
        phone.unauthorized()
        _, stderr = watched.process.communicate(timeout=40)
        assert watched.process.returncode == 4
        assert "has not said yes to this computer's key" in stderr


def test_doctor_of_a_phone_that_is_ready(make_phone: MakePhone, device: Device) -> None:
    phone = make_phone(data_size="1g")
    phone.set_battery(status=3, plugged="")
    done = device("doctor", "--json")
    found = done.rows()
    assert done.code == 0
    assert {row["state"] for row in found.values()} == {"ok"}, done.stdout
    assert list(found) == [
        "adb", "adb server", "connection", "phone", "ABI", "folder", "arm64 program", "free space", "commands",
        "thermal status", "clocks", "fixed performance", "battery", "screen", "battery saver",
    ]  # fmt: skip
    assert found["arm64 program"]["found"] == "was pushed, verified and run"
    assert all(set(row) == {"name", "state", "found", "fix"} for row in found.values())
    assert list(phone.list("/data/local/tmp")) == [], "nothing of the doctor stays on the phone"
    assert phone.calls("settings", "svc", "input") == (
        "settings get global low_power",
        "settings get global development_settings_enabled",
    )
    assert phone.calls("cmd") == ("cmd power set-fixed-performance-mode-enabled false",)


def test_doctor_warns_of_what_makes_times_worse(make_phone: MakePhone, device: Device) -> None:
    phone = make_phone(android="10", kind="pixel4", data_size="128m", missing=("taskset",))
    phone.set_thermal(1, 40.5)
    phone.set_cap(1, 1.8)
    phone.set_battery(temperature_c=39.5)
    # A folder as a session holds it: what that session set is left alone.
    held = "mkdir /data/local/tmp/pocketforge.lock"
    phone.server("-s", phone.serial, "shell", f"settings put global low_power 1; input keyevent KEYCODE_SLEEP; {held}")
    done = device("doctor", "--json")
    found = done.rows()
    warned = {name: row["found"] for name, row in found.items() if row["state"] == "warn"}
    assert done.code == 0, done.stdout
    assert warned == {
        "free space": "128 MB in /data/local/tmp",
        "commands": "the phone has no taskset",
        "in use": "a benchmark runs on the phone (/data/local/tmp/pocketforge.lock)",
        "thermal status": "light, skin 40.5 °C, CPU 42 °C",
        "clocks": "CPU 1 at 1.8432 GHz, capped to 1.8432 of 2.8416 GHz",
        "fixed performance": "not asked: a benchmark runs on the phone",
        "battery": "80 %, 39.5 °C, charging",
        "screen": "asleep",
        "battery saver": "on",
    }
    assert "cool it" in found["thermal status"]["fix"]
    assert phone.calls("cmd") == ()


def test_doctor_says_what_stops_a_benchmark(make_phone: MakePhone, device: Device) -> None:
    phone = make_phone("old_32bit", missing=("taskset", "setsid"), noexec=True, data_size="8m")
    phone.set_battery(level=9)
    phone.server("-s", phone.serial, "shell", "cmd thermalservice override-status 0")
    done = device("doctor", "--json")
    found = done.rows()
    missing = {name: row["found"] for name, row in found.items() if row["state"] == "missing"}
    assert done.code == 4
    assert list(missing) == [
        "ABI", "folder", "arm64 program", "free space", "commands", "thermal status", "battery"
    ]  # fmt: skip
    assert missing["ABI"] == "armeabi-v7a, armeabi: programs for arm64-v8a do not run on it"
    assert "Permission denied" in missing["folder"] or "can't execute" in missing["folder"]
    assert missing["commands"] == "the phone has no setsid, taskset"
    assert found["fixed performance"]["found"] == "there is none before Android 11"
    assert missing["battery"] == "9 %, 28.7 °C, charging"
    assert found["thermal status"]["fix"] == "adb shell cmd thermalservice reset undoes it"
    assert list(phone.list("/data/local/tmp")) == []


def test_doctor_of_a_full_phone(make_phone: MakePhone, device: Device) -> None:
    phone = make_phone()
    phone.fill(0)
    done = device("doctor")
    assert (done.code, done.stderr) == (4, "")
    rows = done.stdout.splitlines()
    (folder,) = (
        n for n, row in enumerate(rows) if row.startswith("MISSING  folder            /data/local/tmp: no file")
    )
    assert "No space left on device" in rows[folder]
    assert rows[folder + 1].strip().startswith("do: free space on the phone")
    assert "MISSING  free space        0 MB in /data/local/tmp" in rows
    assert "ok       screen            awake" in rows


def test_doctor_without_a_phone_or_adb(device: Device, adb_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    done = device("doctor", "--json")
    assert done.code == 4
    assert [(name, row["state"]) for name, row in done.rows().items()] == [
        ("adb", "ok"), ("adb server", "ok"), ("phone", "missing"),
    ]  # fmt: skip
    monkeypatch.setenv("POCKETFORGE_ADB", "/nowhere/adb")
    done = device("doctor")
    assert (done.code, done.stderr) == (4, "")
    assert done.stdout.startswith("MISSING  adb               /nowhere/adb (POCKETFORGE_ADB) is not a program")


@pytest.mark.parametrize(
    ("kind", "ours"),
    [("LinkLost", DeviceUnavailable), ("NoPhone", DeviceUnavailable), ("PhoneTimeout", DeviceTimeout),
     ("TooHot", DeviceTimeout), ("BadOutput", DeviceError), ("TransferDamaged", DeviceError)],
)  # fmt: skip
def test_errors_of_phones_become_ours(kind: str, ours: type[PocketforgeError]) -> None:
    from android_bench import errors

    with pytest.raises(PocketforgeError) as caught, phones.phone_errors():
        raise getattr(errors, kind)("what happened", "what to do")
    assert type(caught.value) is ours
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == ("what happened", "what to do", 4)


def test_help_loads_nothing_of_phones() -> None:
    for arguments in (["device", "--help"], ["device", "watch", "--help"], ["device", "doctor", "--help"]):
        argv = [sys.executable, "-X", "importtime", "-m", "pocketforge", *arguments]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "click" in loaded
        assert loaded & {"android_bench", "rich", "torch", "numpy", "cattrs"} == set()
