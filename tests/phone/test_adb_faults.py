"""Every fault between this computer and a phone, made on the real link: what is raised, what is left, what goes on."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adb_for_tests import AdbServer
from phone import MakePhone, Phone
from phone_parts import PhoneParts

import android_bench
from android_bench import repeating, server, transfer
from android_bench.adb import Adb, Link
from android_bench.errors import (
    LinkLost,
    NoSpace,
    Offline,
    PhoneError,
    PhoneTimeout,
    ServerLost,
    ServerMismatch,
    TransferDamaged,
    Unauthorized,
)
from android_bench.transfer import DRAFT

# Proven with an arm64 shell under qemu; other test files use this machine's own (phone_fixtures.py).
USERLAND = "arm64"
PLACE = "/data/local/tmp"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def adb(adb_server: AdbServer) -> Adb:
    return Adb()


@pytest.fixture
def link(adb: Adb, phone: Phone) -> Link:
    return adb.phone(phone.serial)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """1 MB that no link can compress."""
    path = tmp_path / "big"
    path.write_bytes(secrets.token_bytes(1_000_000))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For links that are to stay frozen: less time for what will not come."""
    monkeypatch.setattr(repeating, "SETTLE_S", 0.5)
    monkeypatch.setattr(transfer, "_REMOVE_TIMEOUT_S", 0.5)
    monkeypatch.setattr("android_bench.link._ECHO_TIMEOUT_S", 0.5)


@contextlib.contextmanager
def once(condition: Callable[[], bool], *actions: Callable[[], object]) -> Iterator[None]:
    """Within: as soon as the condition holds, the actions are done, from a thread."""
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            wait_until(condition)
            for action in actions:
                action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert failures == []


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


def runs(phone: Phone, words: str) -> Callable[[], bool]:
    """Whether a program with exactly these words runs on the phone."""
    return lambda: words in phone.ps()


def sent(phone: Phone, size_bytes: int) -> Callable[[], bool]:
    return lambda: phone.passed_bytes()["up"] > size_bytes


def clients(phone: Phone) -> list[bytes]:
    """Command lines of this computer's processes that are about the phone."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"\0-s\0" + phone.serial.encode() + b"\0" in words:
                    found.append(words)
    return found


def drafts(phone: Phone) -> list[str]:
    return [name for name in phone.list(PLACE) if name.startswith(DRAFT)]


def same(link: Link, remote: str, local: Path, folder: Path) -> bool:
    link.pull(remote, folder / "back")
    return (folder / "back").read_bytes() == local.read_bytes()


# --- in mid-command

COUNTED = f"echo x >> {PLACE}/runs; [ $(wc -l < {PLACE}/runs) -gt 1 ] || sleep 63; echo ended"


def test_a_cut_link_is_not_an_end_and_nothing_is_done_twice(link: Link, phone: Phone) -> None:
    with once(runs(phone, "sleep 63"), phone.cut), pytest.raises(LinkLost) as caught:
        link.shell(f"echo a; {COUNTED}")
    assert "dropped" in caught.value.message and phone.serial in caught.value.message and caught.value.hint
    assert caught.value.transient
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"
    assert phone.read(f"{PLACE}/runs") == "x\n"


def test_what_may_be_repeated_is_done_again_after_a_cut(link: Link, phone: Phone) -> None:
    with once(runs(phone, "sleep 63"), phone.cut):
        assert link.run(COUNTED, repeat=True) == "ended\n"
    assert phone.read(f"{PLACE}/runs") == "x\nx\n"


def test_a_frozen_link_ends_at_the_limit_and_leaves_no_client(
    adb: Adb, link: Link, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("android_bench.link._ECHO_TIMEOUT_S", 1.0)
    phone.stall()
    begin_s = time.monotonic()
    with pytest.raises(PhoneTimeout) as caught:
        link.shell("echo a", timeout_s=1)
    assert time.monotonic() - begin_s < 30
    assert not caught.value.answers and "nothing is heard" in caught.value.message
    assert f"adb disconnect {phone.serial}" in caught.value.hint
    assert {one.serial: one.state for one in adb.devices()}[phone.serial] == "device"  # adb's list proves nothing
    with pytest.raises(PhoneTimeout):
        link.wait(0.5)
    assert clients(phone) == []
    phone.heal()
    monkeypatch.setattr("android_bench.link._ECHO_TIMEOUT_S", 10.0)
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"


def test_a_frozen_link_that_thaws_is_asked_again(link: Link, phone: Phone) -> None:
    phone.stall()
    timer = threading.Timer(4, phone.heal)
    timer.start()
    assert link.run("echo back", timeout_s=3, repeat=True) == "back\n"
    timer.join()


def test_a_slow_command_is_told_from_a_frozen_link(link: Link, phone: Phone) -> None:
    with pytest.raises(PhoneTimeout) as caught:
        link.shell("sleep 63", timeout_s=1)
    assert caught.value.answers and "the phone answers other commands" in caught.value.message
    assert clients(phone) == []


def test_adbd_killed_in_mid_command(link: Link, phone: Phone) -> None:
    with once(runs(phone, "sleep 63"), phone.kill_adbd, phone.start_adbd), pytest.raises(LinkLost):
        link.shell(COUNTED)
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"


def test_a_shell_killed_on_the_phone_is_not_a_success(link: Link) -> None:
    with pytest.raises(LinkLost, match="or its shell was killed"):
        link.shell("kill -KILL $PPID $$", timeout_s=20)


def test_a_phone_that_restarts_is_found_again(link: Link, phone: Phone) -> None:
    before = link.run("cat /proc/sys/kernel/random/boot_id")
    with once(runs(phone, "sleep 63"), lambda: phone.reboot(down_s=0.5, connect=False)), pytest.raises(LinkLost):
        link.shell(COUNTED)
    link.wait(LIMIT_S)
    assert link.run("cat /proc/sys/kernel/random/boot_id", repeat=True) != before


def test_one_frozen_phone_does_not_hold_another(
    impatient: None, adb: Adb, link: Link, phone: Phone, make_phone: MakePhone
) -> None:
    other = adb.phone(make_phone().serial)
    phone.stall()
    failures: list[PhoneError] = []

    def ask() -> None:
        try:
            link.shell("echo a", timeout_s=3)
        except PhoneError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert other.run("echo b") == "b\n"
    thread.join()
    assert [type(error) for error in failures] == [PhoneTimeout]


# --- in a transfer


def test_a_link_cut_in_a_push_is_made_good(link: Link, phone: Phone, big: Path, tmp_path: Path) -> None:
    phone.cut_after(300_000)
    link.push(big, f"{PLACE}/file")
    assert phone.cuts() == 1
    assert same(link, f"{PLACE}/file", big, tmp_path) and drafts(phone) == []


def test_a_link_cut_in_a_pull_is_made_good(link: Link, phone: Phone, big: Path, tmp_path: Path) -> None:
    link.push(big, f"{PLACE}/file")
    phone.cut_after(300_000, way="down")
    assert same(link, f"{PLACE}/file", big, tmp_path)
    assert phone.cuts() == 1
    assert sorted(os.listdir(tmp_path)) == ["back", "big"]


def test_adbd_killed_in_a_push_is_made_good(link: Link, phone: Phone, big: Path, tmp_path: Path) -> None:
    phone.limit_rate(400_000)
    with once(sent(phone, 100_000), phone.kill_adbd, phone.start_adbd, phone.heal):
        link.push(big, f"{PLACE}/file")
    assert same(link, f"{PLACE}/file", big, tmp_path) and drafts(phone) == []


def test_a_phone_that_stays_away_in_a_push(impatient: None, link: Link, phone: Phone, big: Path) -> None:
    link.run(f"echo before > {PLACE}/file")
    phone.limit_rate(400_000)
    with once(sent(phone, 100_000), phone.go_offline), pytest.raises((Offline, LinkLost)) as caught:
        link.push(big, f"{PLACE}/file")
    assert f"may be left on the phone: {PLACE}/{DRAFT}" in caught.value.hint
    assert phone.read(f"{PLACE}/file") == "before\n"


def test_a_frozen_link_in_a_transfer_ends_at_the_limit(
    impatient: None, link: Link, phone: Phone, big: Path, tmp_path: Path
) -> None:
    link.push(big, f"{PLACE}/there")
    phone.limit_rate(400_000)
    with (
        once(sent(phone, 100_000), phone.stall),
        pytest.raises(PhoneTimeout, match=r"pushing .* did not end"),
    ):
        link.push(big, f"{PLACE}/file", timeout_s=2)
    with pytest.raises(PhoneTimeout):
        link.pull(f"{PLACE}/there", tmp_path / "back", timeout_s=2)
    assert clients(phone) == [] and os.listdir(tmp_path) == ["big"]


def test_a_full_phone(link: Link, phone: Phone, big: Path) -> None:
    link.run(f"echo before > {PLACE}/file")
    phone.fill(200_000)
    with pytest.raises(NoSpace) as caught:
        link.push(big, f"{PLACE}/file")
    assert f"{PLACE}/file does not fit on the phone" in caught.value.message and "df -h" in caught.value.hint
    assert "may be left" not in caught.value.hint
    assert phone.read(f"{PLACE}/file") == "before\n" and drafts(phone) == []
    with pytest.raises(NoSpace):
        link.run(f"cat /dev/zero > {PLACE}/zeros")


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_damaged_file_is_never_taken(
    adb_server: AdbServer, phone: Phone, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A client between adb and us that changes one byte and says nothing, each time."""
    liar, real = tmp_path / "liar", shlex.quote(str(adb_server.program))
    change = 'printf x | dd of="$file" conv=notrunc status=none'
    script = f'case "$3" in push) file=$4; {change};; esac\n{real} "$@"; code=$?\n'
    script = script if way == "push" else f'{real} "$@"; code=$?; case "$3" in pull) file=$5; {change};; esac\n'
    liar.write_text(f"#!/bin/sh\n{script}exit $code\n")
    liar.chmod(0o755)
    big.write_bytes(b"a" + big.read_bytes()[1:])
    Adb().phone(phone.serial).push(big, f"{PLACE}/file")
    before = big.read_bytes()
    link = Adb(liar).phone(phone.serial)
    move = link.push if way == "push" else lambda here, there: link.pull(there, tmp_path / "back")
    with pytest.raises(TransferDamaged, match=f"was not {way}ed whole: wanted size and SHA-256 1000000 ") as caught:
        move(big, f"{PLACE}/file")
    assert caught.value.hint
    big.write_bytes(before)
    assert same(Adb().phone(phone.serial), f"{PLACE}/file", big, tmp_path) and drafts(phone) == []


# --- ^C

INTERRUPTED = """
import sys
from pathlib import Path
from android_bench.adb import Adb
link = Adb().phone(sys.argv[1])
try:
    if sys.argv[2] == "push":
        link.push(Path(sys.argv[3]), sys.argv[4])
    else:
        link.shell("sleep 63")
except KeyboardInterrupt as error:
    print("interrupted", *getattr(error, "__notes__", ()))
"""


@pytest.mark.parametrize("doing", ["push", "shell"])
def test_an_interrupt_leaves_nothing_here_and_no_draft(phone: Phone, big: Path, doing: str) -> None:
    argv = [sys.executable, "-c", INTERRUPTED, phone.serial, doing, str(big), f"{PLACE}/file"]
    environ = {**os.environ, "PYTHONPATH": str(Path(android_bench.__file__).parents[1])}
    phone.limit_rate(200_000)
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as process:
        wait_until(sent(phone, 100_000) if doing == "push" else runs(phone, "sleep 63"))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=LIMIT_S)
    assert said == "interrupted\n"
    assert clients(phone) == []
    assert drafts(phone) == [] and "file" not in phone.list(PLACE)


# --- states


def test_a_phone_that_asks_for_permission(adb: Adb, link: Link, phone: Phone) -> None:
    phone.unauthorized()
    phone.wait_for("unauthorized")
    for call in (lambda: adb.phone(phone.serial), lambda: link.shell("true"), lambda: link.wait(0.5)):
        with pytest.raises(Unauthorized, match="has not said yes to this computer's key") as caught:
            call()
        assert "Allow" in caught.value.hint
    phone.heal()
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"


def test_connecting_to_a_phone_that_asks_for_permission(adb: Adb, make_phone: MakePhone) -> None:
    phone = make_phone(connect=False)
    phone.unauthorized()
    with pytest.raises(Unauthorized):
        adb.connect(phone.serial)


def test_a_phone_that_is_offline(adb: Adb, link: Link, phone: Phone) -> None:
    phone.go_offline()
    phone.wait_for("offline")
    for call in (lambda: adb.phone(phone.serial), lambda: link.shell("true"), lambda: link.wait(0.5)):
        with pytest.raises(Offline, match="does not answer adb") as caught:
            call()
        assert caught.value.transient and caught.value.hint
    phone.heal()
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"


def test_a_phone_that_fell_out_of_the_list_is_connected_again(adb: Adb, link: Link, phone: Phone) -> None:
    adb.disconnect(phone.serial)
    with pytest.raises(LinkLost, match="no longer in adb's list"):
        link.shell("true")
    link.wait(LIMIT_S)
    assert link.run("echo back") == "back\n"


# --- the server


def test_the_server_killed_in_mid_command(adb_server: AdbServer, link: Link, phone: Phone) -> None:
    try:
        with once(runs(phone, "sleep 63"), adb_server.kill), pytest.raises(ServerLost) as caught:
            link.shell(COUNTED)
        assert link.adb.server.spec in caught.value.message and caught.value.transient
        link.wait(LIMIT_S)  # the client starts a server, and the phone is connected to it
        assert link.run("echo back") == "back\n"
    finally:
        adb_server.start()


def test_the_server_killed_in_a_push_is_made_good(
    adb_server: AdbServer, link: Link, phone: Phone, big: Path, tmp_path: Path
) -> None:
    phone.limit_rate(400_000)
    try:
        with once(sent(phone, 100_000), adb_server.kill, phone.heal):
            link.push(big, f"{PLACE}/file")
        assert same(link, f"{PLACE}/file", big, tmp_path) and drafts(phone) == []
    finally:
        adb_server.start()


@contextlib.contextmanager
def serving(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A program that listens where the adb server should, and answers every question with the same; what it heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                with one:
                    heard.append(one.recv(1000))
                    one.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)


@pytest.fixture
def elsewhere(phone_parts: PhoneParts, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a real client with a server of its own, which is not there yet; ended afterwards."""
    variables = {
        **os.environ,
        "POCKETFORGE_ADB": str(phone_parts.adb),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "ADB_SERVER_SOCKET": f"localfilesystem:{tmp_path}/s",
    }
    yield variables
    if server.ask_version(server.address(variables)) == 41:
        subprocess.run([phone_parts.adb, "kill-server"], env=variables, check=True, capture_output=True)


def test_the_users_server_of_another_version_is_not_touched(elsewhere: dict[str, str], tmp_path: Path) -> None:
    adb = Adb(environ=elsewhere)
    with serving(tmp_path / "s", b"OKAY00040027") as heard:
        for call in (adb.devices, adb.phone, lambda: adb.connect("127.0.0.1:1"), lambda: Link(adb, "x").shell("true")):
            with pytest.raises(ServerMismatch) as caught:
                call()
            assert "1.0.39" in caught.value.message and adb.version in caught.value.message
        assert set(heard) == {b"000chost:version"}  # no host:kill, and no other question
        assert server.ask_version(adb.server) == 0x27  # it still runs


def test_the_client_itself_would_have_killed_that_server(elsewhere: dict[str, str], tmp_path: Path) -> None:
    """Why the server is asked first: the real client, asked for its list, sends host:kill."""
    program = elsewhere["POCKETFORGE_ADB"]
    with serving(tmp_path / "s", b"OKAY00040027") as heard:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([program, "devices"], env=elsewhere, capture_output=True, timeout=5)
        assert any(b"host:kill" in words for words in heard)


def test_another_program_where_the_server_should_be(elsewhere: dict[str, str], tmp_path: Path) -> None:
    with serving(tmp_path / "s", b"HTTP/1.1 400 Bad Request\r\n\r\n"), pytest.raises(ServerLost) as caught:
        Adb(environ=elsewhere).devices()
    assert elsewhere["ADB_SERVER_SOCKET"] in caught.value.message
    assert "did not answer as an adb server" in caught.value.message


def test_a_server_that_hangs(elsewhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.ask_version, "__defaults__", (0.3,))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(ServerLost, match="did not answer within") as caught:
            Adb(environ=elsewhere).devices()
    assert elsewhere["ADB_SERVER_SOCKET"] in caught.value.message
    (tmp_path / "s").unlink()


def test_no_server_elsewhere_is_said_and_none_is_started(elsewhere: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    elsewhere["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{port}"
    with pytest.raises(ServerLost, match=f"no adb server answers at tcp:127.0.0.1:{port}"):
        Adb(environ=elsewhere).devices()


def test_no_server_here_is_started_by_the_client(elsewhere: dict[str, str]) -> None:
    adb = Adb(environ=elsewhere)
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(adb.devices())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(), (), ()]
    assert server.ask_version(adb.server) == 41


def test_a_server_that_cannot_be_started(elsewhere: dict[str, str]) -> None:
    elsewhere["ADB_SERVER_SOCKET"] = "localfilesystem:/nosuch/folder/s"
    with pytest.raises(ServerLost, match="no adb server could be started at localfilesystem:/nosuch/"):
        Adb(environ=elsewhere).devices()
