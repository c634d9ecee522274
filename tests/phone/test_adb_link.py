"""Commands and files over the real adb client to a real adbd: what comes back, and what each failure is called."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
import time
from pathlib import Path

import pytest
from adb_for_tests import AdbServer
from hypothesis import given, settings
from hypothesis import strategies as st
from phone import MakePhone, Phone
from phone_kinds import OLD_FEATURES

from android_bench.adb import Adb, Link
from android_bench.errors import (
    AdbMissing,
    BadSerial,
    CommandFailed,
    CommandMissing,
    ConnectFailed,
    IsDirectory,
    NoPhone,
    NotExecutable,
    PermissionDenied,
    PhoneError,
    PullFailed,
    PushFailed,
    ReadOnly,
    SeveralPhones,
    UnknownSerial,
    WrongAbi,
    WrongState,
)
from android_bench.transfer import DRAFT

# Proven with an arm64 shell under qemu; other test files use this machine's own (phone_fixtures.py).
USERLAND = "arm64"
PLACE = "/data/local/tmp"
# Each would do something if a shell ever read it as more than a word.
HOSTILE = (
    "a b", "it's", '"quoted"', "$(touch /data/local/tmp/pwned)", "`touch /data/local/tmp/pwned`", "a;reboot", "a&b|c>d",
    "-rf", "--help", "*", "~", "a\nb", "a\tb", "\\n", "ünïcödé-☃-日本", "#x", "!!", "{a,b}", "$HOME", "x,0777", "%s",
)  # fmt: skip
# The printf would make the path, which a name cannot hold.
NAMES = (
    "it's \"a b\"; $(touch $(printf '\\057data\\057local\\057tmp\\057pwned')) `reboot` &|<>()",
    "-rf --help *",
    "a\nb\tc\\n ünïcödé-☃-日本",
    "~ #x !! {a,b} $HOME %s,0777",
    "No space left on device",
)


@pytest.fixture(scope="module")
def adb(adb_server: AdbServer) -> Adb:
    return Adb()


@pytest.fixture(scope="module")
def link(adb: Adb, shared_phone: Phone) -> Link:
    return adb.phone(shared_phone.serial)


@pytest.fixture(scope="module")
def old_phone(make_shared_phone: MakePhone) -> Phone:
    """As Android 6: no shell protocol, so adb gives no exit codes, and stderr within stdout."""
    return make_shared_phone(features=OLD_FEATURES)


@pytest.fixture(scope="module")
def old_link(adb: Adb, old_phone: Phone) -> Link:
    return adb.phone(old_phone.serial)


# --- commands


@pytest.mark.parametrize(
    ("command", "code", "stdout", "stderr"),
    [
        ("echo hi; echo err >&2; exit 3", 3, "hi\n", "err\n"),
        ("printf 'no newline'; printf 'none here' >&2", 0, "no newline", "none here"),
        ("echo; echo; true", 0, "\n\n", ""),
        ("printf 'a\\r\\nb\\r\\n'", 0, "a\r\nb\r\n", ""),
        ("printf '\\377\\000x'", 0, "\ufffd\0x", ""),
        ("set -e; false; echo no", 1, "", ""),
        ("exec false", 1, "", ""),
        (["printf", "%s|", "a b", "$HOME", ""], 0, "a b|$HOME||", ""),
    ],
)
def test_output_and_exit_code_come_back_unchanged(
    link: Link, command: str | list[str], code: int, stdout: str, stderr: str
) -> None:
    output = link.shell(command)
    assert (output.code, output.stdout, output.stderr) == (code, stdout, stderr)


def test_odd_ends_are_ends_too(link: Link) -> None:
    assert link.shell("if (").code == 1  # mksh's syntax error
    assert link.shell("kill -KILL $$").code == 137
    # $$ is the shell that runs the line, so that `taskset -p MASK $$; exec RUNNER` pins the runner.
    shell, parent = link.run("echo $$; sh -c 'echo $PPID'").split()
    assert shell == parent


def test_long_output_is_whole(link: Link) -> None:
    assert link.run("seq 1 200000").splitlines() == [str(number) for number in range(1, 200001)]


def test_a_background_process_does_not_hold_the_call(link: Link, shared_phone: Phone) -> None:
    begin_s = time.monotonic()
    assert link.shell("sleep 61 & echo done", timeout_s=60).stdout == "done\n"
    assert time.monotonic() - begin_s < 40
    assert any("sleep 61" in line for line in shared_phone.ps())
    link.run("pkill sleep")


def test_an_old_phone_without_the_shell_protocol(old_link: Link, tmp_path: Path) -> None:
    output = old_link.shell("echo hi; echo err >&2; exit 3")
    assert (output.code, output.stdout, output.stderr) == (3, "hi\nerr\n", "")
    assert old_link.shell("printf 'no newline'").stdout == "no newline"
    assert old_link.shell("sleep 3 & echo done", timeout_s=60).stdout == "done\n"
    with pytest.raises(CommandMissing, match="'nosuch'"):
        old_link.run("nosuch")
    with pytest.raises(CommandFailed) as caught:
        old_link.run("echo why; false")
    assert caught.value.code == 1 and "why" in str(caught.value)
    check_round_trip(old_link, tmp_path, secrets.token_bytes(200_000), f"{PLACE}/old")


word = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=5)
@given(st.lists(word, min_size=1, max_size=40))
def test_any_words_reach_a_program_on_the_phone_as_they_are(link: Link, texts: list[str]) -> None:
    assert link.run(["printf", "%s\\0", *texts]).split("\0")[:-1] == texts


def test_hostile_words_are_words(link: Link, shared_phone: Phone) -> None:
    assert link.run(["printf", "%s\\0", *HOSTILE]).split("\0")[:-1] == list(HOSTILE)
    assert "pwned" not in shared_phone.list(PLACE)


def elf(machine: int) -> bytes:
    """The head of a 64-bit little-endian program for another processor."""
    start = b"\x7fELF\2\1\1" + bytes(9)
    return start + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 0, 64, 0, 0) + bytes(64)


@pytest.mark.parametrize(
    ("command", "kind", "text", "hint"),
    [
        ("nosuch --version", CommandMissing, "no command 'nosuch'", "toybox"),
        (["/no such/tool"], CommandMissing, "no command '/no such/tool'", "path"),
        ("echo x > /system/x", ReadOnly, "/system/x", PLACE),
        ("cd /sdcard; echo true >t; chmod 755 t; /sdcard/t", NotExecutable, "/sdcard is mounted noexec", PLACE),
        # Where `./x` is cannot be told afterwards.
        ("cd /sdcard; echo true >t; chmod 755 t; ./t", PermissionDenied, "can't execute", "noexec"),
        (f"echo true > {PLACE}/plain; {PLACE}/plain", PermissionDenied, "can't execute", PLACE),
        ("/data", CommandFailed, "ended with code 126", ""),
        ("echo one; echo two >&2; exit 7", CommandFailed, "ended with code 7:\ntwo", ""),
        ("kill -SEGV $$", CommandFailed, "ended with code 139", ""),
    ],
)  # fmt: skip
def test_what_a_failed_command_is_called(
    link: Link, command: str | list[str], kind: type[PhoneError], text: str, hint: str
) -> None:
    with pytest.raises(PhoneError) as caught:
        link.run(command)
    assert type(caught.value) is kind
    assert text in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("machine", [8, 62])  # MIPS, x86-64
def test_a_program_for_another_processor(link: Link, tmp_path: Path, machine: int) -> None:
    (tmp_path / "program").write_bytes(elf(machine))
    link.push(tmp_path / "program", f"{PLACE}/program", executable=True)
    with pytest.raises(WrongAbi, match="not executable: 64-bit ELF file"):
        link.run([f"{PLACE}/program"])


# --- files


def check_round_trip(link: Link, folder: Path, content: bytes, remote: str) -> None:
    sent, back = folder / "sent", folder / "back"
    sent.write_bytes(content)
    link.push(sent, remote)
    assert link.run(["sha256sum", "-b", remote]).split()[0].lstrip("\\") == hashlib.sha256(content).hexdigest()
    link.pull(remote, back)
    assert back.read_bytes() == content
    assert sorted(os.listdir(folder)) == ["back", "sent"]


def no_drafts(phone: Phone) -> bool:
    return not any(name.startswith(DRAFT) for name in phone.list(PLACE))


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_file_goes_there_and_back(link: Link, shared_phone: Phone, tmp_path: Path, size: int) -> None:
    check_round_trip(link, tmp_path, secrets.token_bytes(size), f"{PLACE}/file")
    assert no_drafts(shared_phone)


def test_a_file_replaces_a_file_and_can_be_started(link: Link, tmp_path: Path) -> None:
    script = tmp_path / "script"
    for word in ("one", "two"):
        script.write_text(f"echo {word}\n")
        link.push(script, f"{PLACE}/script", executable=True)
        assert link.run([f"{PLACE}/script"]) == f"{word}\n"


@pytest.mark.parametrize("name", NAMES)
def test_hostile_file_names_are_names(link: Link, shared_phone: Phone, tmp_path: Path, name: str) -> None:
    local, remote = tmp_path / name, f"{PLACE}/names/{name}"
    local.write_bytes(b"content")
    link.push(local, remote)
    back = tmp_path / "back" / name
    back.parent.mkdir()
    link.pull(remote, back)
    assert back.read_bytes() == b"content"
    assert shared_phone.list(f"{PLACE}/names") == (name,)
    assert "pwned" not in shared_phone.list(PLACE)
    link.run(["rm", "-r", f"{PLACE}/names"])


def test_a_name_as_an_option_in_the_current_folder(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("--sync").write_bytes(b"content")
    link.push(Path("--sync"), f"{PLACE}/option")
    link.pull(f"{PLACE}/option", Path("-a"))
    assert Path("-a").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("remote", "kind", "text"),
    [
        (PLACE, IsDirectory, "is a directory"),
        ("/sdcard", IsDirectory, "is a directory"),
        (f"{PLACE}/folder", IsDirectory, "is a directory"),
        ("/system/x", ReadOnly, "Read-only file system"),
        ("/data/x", PermissionDenied, "Permission denied"),
        ("/proc/x", PushFailed, "could not be pushed"),
        ("x", PushFailed, "no absolute path"),
        ("/x/", PushFailed, "no absolute path"),
        ("", PushFailed, "no absolute path"),
    ],
)
def test_where_no_file_can_be_pushed(
    link: Link, shared_phone: Phone, tmp_path: Path, remote: str, kind: type[PhoneError], text: str
) -> None:
    link.run(f"mkdir -p {PLACE}/folder")
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(PhoneError) as caught:
        link.push(tmp_path / "file", remote)
    assert type(caught.value) is kind and text in caught.value.message and caught.value.hint
    assert "may be left" not in str(caught.value)
    assert no_drafts(shared_phone) and shared_phone.list(f"{PLACE}/folder") == ()


def test_what_cannot_be_pushed_from_here(link: Link, tmp_path: Path) -> None:
    for path, text in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "not a regular file"),
        (Path("/dev/zero"), "not a"),
    ):
        with pytest.raises(PushFailed, match=text):
            link.push(path, f"{PLACE}/x")


@pytest.mark.parametrize(
    ("remote", "kind", "text"),
    [
        (f"{PLACE}/nosuch", PullFailed, "No such file or directory"),
        (PLACE, IsDirectory, "is a directory"),
        (f"{PLACE}/secret", PullFailed, "Permission denied"),
        ("x", PullFailed, "no absolute path"),
    ],
)
def test_a_failed_pull_leaves_the_file_here_as_it_was(
    link: Link, tmp_path: Path, remote: str, kind: type[PhoneError], text: str
) -> None:
    link.run(f"echo x > {PLACE}/secret; chmod 000 {PLACE}/secret")
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(PhoneError) as caught:
        link.pull(remote, tmp_path / "file")
    assert type(caught.value) is kind and text in caught.value.message
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_pull_to_nowhere_is_this_computers_fault(link: Link, tmp_path: Path) -> None:
    link.run(f"echo x > {PLACE}/small")
    with pytest.raises(PullFailed, match="cannot be written: No such file"):
        link.pull(f"{PLACE}/small", tmp_path / "nosuch" / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PullFailed, match="cannot be written: Is a directory"):
        link.pull(f"{PLACE}/small", tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_phone_that_cannot_check_a_file(adb: Adb, make_phone: MakePhone, tmp_path: Path) -> None:
    phone = make_phone(missing=("sha256sum",))
    link = adb.phone(phone.serial)
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(CommandMissing) as caught:
        link.push(tmp_path / "file", f"{PLACE}/file")
    assert caught.value.word == "sha256sum" and "cannot be checked" in caught.value.hint
    assert phone.list(PLACE) == ()
    link.run(f"echo x > {PLACE}/there")
    with pytest.raises(CommandMissing, match="sha256sum"):
        link.pull(f"{PLACE}/there", tmp_path / "back")
    assert os.listdir(tmp_path) == ["file"]


# --- which phone


def test_the_list_is_what_adb_says(adb: Adb, shared_phone: Phone, old_phone: Phone) -> None:
    phones = {phone.serial: phone for phone in adb.devices()}
    assert {shared_phone.serial, old_phone.serial} <= set(phones)
    listed = phones[shared_phone.serial]
    assert listed.state == "device" and listed.problem == "" and listed.about["model"] == "Pixel_8"
    assert adb.version.startswith("1.0.41 (34.")


def test_a_phone_must_be_named_when_there_are_several(adb: Adb, shared_phone: Phone, old_phone: Phone) -> None:
    with pytest.raises(SeveralPhones) as caught:
        adb.phone()
    assert shared_phone.serial in str(caught.value) and old_phone.serial in str(caught.value)
    assert "ANDROID_SERIAL" in caught.value.hint
    named = Adb(environ={**os.environ, "ANDROID_SERIAL": old_phone.serial})
    assert named.phone().serial == old_phone.serial
    assert named.phone(shared_phone.serial).serial == shared_phone.serial


@pytest.mark.parametrize("serial", ["nosuch", "127.0.0.1:9", "$(reboot)", "a;b"])
def test_a_serial_that_adb_does_not_know(adb: Adb, shared_phone: Phone, serial: str) -> None:
    with pytest.raises(UnknownSerial) as caught:
        adb.phone(serial)
    assert serial in caught.value.message and f"{shared_phone.serial} (device)" in caught.value.message
    assert ("adb connect" in caught.value.hint) is (serial == "127.0.0.1:9")
    with pytest.raises(UnknownSerial, match="ANDROID_SERIAL"):
        Adb(environ={**os.environ, "ANDROID_SERIAL": serial}).phone()


@pytest.mark.parametrize("serial", ["-a", "--help", "a b", "a\nb", "\x1b]0;x\x07"])
def test_what_can_be_no_serial_never_reaches_adb(adb: Adb, serial: str) -> None:
    for call in (adb.phone, adb.connect, adb.disconnect):
        with pytest.raises(BadSerial):
            call(serial)


@pytest.mark.parametrize("state", ["recovery", "sideload", "bootloader"])
def test_a_phone_that_does_not_run_android(adb: Adb, make_phone: MakePhone, state: str) -> None:
    phone = make_phone(state=state)
    with pytest.raises(WrongState, match=state) as caught:
        adb.phone(phone.serial)
    assert caught.value.hint


def test_several_phones_at_once_from_threads(adb: Adb, link: Link, old_link: Link, tmp_path: Path) -> None:
    links = (link, old_link)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine, name = links[number % 2], f"{PLACE}/thread{number}"
            (tmp_path / f"sent{number}").write_bytes(secrets.token_bytes(100_000 + number))
            mine.push(tmp_path / f"sent{number}", name)
            assert mine.run(f"wc -c < {name}").strip() == str(100_000 + number)
            mine.pull(name, tmp_path / f"back{number}")
            assert (tmp_path / f"back{number}").read_bytes() == (tmp_path / f"sent{number}").read_bytes()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_connecting_is_judged_by_its_words(adb: Adb, make_phone: MakePhone) -> None:
    phone = make_phone(connect=False)
    assert adb.connect(phone.serial) == phone.serial
    assert adb.connect(phone.serial) == phone.serial  # "already connected to"
    adb.disconnect(phone.serial)
    assert phone.state() == ""
    adb.disconnect(phone.serial)
    for address, text in (
        ("127.0.0.1:1", "Connection refused"),
        ("127.0.0.1:99999", "bad port"),
        ("127.0.0.1:x", "bad port"),
    ):
        with pytest.raises(ConnectFailed, match=text) as caught:
            adb.connect(address)
        assert address in caught.value.message and "adb pair" in caught.value.hint


# --- which adb


def test_no_adb_here(tmp_path: Path) -> None:
    with pytest.raises(AdbMissing, match="there is no adb on this computer") as caught:
        Adb(environ={"PATH": str(tmp_path), "ANDROID_HOME": str(tmp_path)})
    assert "platform-tools" in str(caught.value) and "POCKETFORGE_ADB" in caught.value.hint
    with pytest.raises(AdbMissing, match="POCKETFORGE_ADB") as caught:
        Adb(environ={"PATH": os.environ["PATH"], "POCKETFORGE_ADB": str(tmp_path / "adb")})
    broken = tmp_path / "broken"
    broken.write_bytes(elf(8))
    broken.chmod(0o755)
    with pytest.raises(AdbMissing, match="does not start"):
        Adb(broken)
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(AdbMissing, match="is not adb: asked for its version it said 'hello'"):
        Adb(other)


def test_where_adb_is_looked_for(adb_server: AdbServer, tmp_path: Path) -> None:
    tools = tmp_path / "sdk" / "platform-tools"
    tools.mkdir(parents=True)
    (tools / "adb").symlink_to(adb_server.program)
    for variables in ({"PATH": str(tools)}, {"PATH": "/nosuch", "ANDROID_HOME": str(tmp_path / "sdk")},
                      {"PATH": "/nosuch", "ANDROID_SDK_ROOT": str(tmp_path / "sdk")},
                      {"PATH": "/nosuch", "POCKETFORGE_ADB": str(tools / "adb")}):  # fmt: skip
        assert Adb(environ=variables).program == str(tools / "adb")
    assert Adb(adb_server.program).program == str(adb_server.program)


def test_no_phone_at_all(adb_server: AdbServer, adb: Adb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "devices", lambda: ())
    with pytest.raises(NoPhone, match="adb knows no phone") as caught:
        adb.phone()
    assert "USB debugging" in caught.value.hint
