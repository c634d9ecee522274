"""Texts of adb and of phones' shells, and what they mean; no adb runs here."""

from __future__ import annotations

import pickle
import shlex
import socket
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench import errors
from android_bench.errors import (
    BadSerial,
    CommandFailed,
    CommandMissing,
    IsDirectory,
    LinkLost,
    NoPermissions,
    NoSpace,
    Offline,
    PermissionDenied,
    PhoneError,
    PullFailed,
    PushFailed,
    ReadOnly,
    ServerLost,
    ServerMismatch,
    TransferDamaged,
    Unauthorized,
    WrongAbi,
    WrongState,
)
from android_bench.judge import Output, client_error, command_error, denied_path, last_line, pull_error, push_error
from android_bench.lines import MAX_LINE_BYTES, as_line, marked
from android_bench.link import mount_of
from android_bench.listing import Listed, check_serial, is_address, is_serial, parse_devices
from android_bench.repeating import repeated
from android_bench.server import Address, address, ask_version, check, interface

TITLE = "List of devices attached\n"
NO_PERMISSIONS = (
    "no permissions (user in plugdev group; are your udev rules wrong?); "
    "see [http://developer.android.com/tools/device.html]"
)


# --- the list of devices


def test_a_list_as_adb_writes_it() -> None:
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n" + TITLE + "39111FDJG00ABC"
        "         device usb:1-4.2 product:husky model:Pixel_8_Pro device:husky transport_id:7\n"
        "emulator-5554          offline transport_id:2\n"
        "192.168.1.20:5555      unauthorized transport_id:3\n"
        f"0123456789ABCDEF       {NO_PERMISSIONS} usb:1-1 transport_id:4\n"
        "adb-39111-xyz (2)._adb-tls-connect._tcp device product:husky model:X device:husky transport_id:5\n"
        "(no serial number)     device usb:1-9 transport_id:6\n\n"
    )
    phones = parse_devices(text)
    assert [(phone.serial, phone.state) for phone in phones] == [
        ("39111FDJG00ABC", "device"),
        ("emulator-5554", "offline"),
        ("192.168.1.20:5555", "unauthorized"),
        ("0123456789ABCDEF", "no permissions"),
        ("adb-39111-xyz (2)._adb-tls-connect._tcp", "device"),
        ("(no serial number)", "device"),
    ]
    assert phones[0].about == {
        "usb": "1-4.2", "product": "husky", "model": "Pixel_8_Pro", "device": "husky", "transport_id": "7"
    }  # fmt: skip
    assert phones[3].about["why"] == "(user in plugdev group; are your udev rules wrong?)"
    assert phones[3].about["usb"] == "1-1"
    assert phones[0].problem == phones[0].fix == ""
    assert "cannot be given to adb" in phones[4].problem and "adb connect" in phones[4].fix


@pytest.mark.parametrize(
    ("state", "kind", "what", "fix"),
    [
        ("offline", Offline, "does not answer adb", "plug it in again"),
        ("unauthorized", Unauthorized, "has not said yes", 'tap "Allow"'),
        ("authorizing", Unauthorized, "is checking", "wait a moment"),
        ("connecting", Offline, "is being connected", "wait a moment"),
        ("detached", Offline, "was given up", "attach"),
        ("recovery", WrongState, "runs its recovery", "Reboot system now"),
        ("rescue", WrongState, "rescue mode", "Reboot system now"),
        ("sideload", WrongState, "waits for an update", "finish or cancel"),
        ("bootloader", WrongState, "bootloader", "fastboot reboot"),
        ("host", WrongState, "is a computer", "name a phone"),
        ("unknown", WrongState, "cannot name", "restart it"),
        (NO_PERMISSIONS, NoPermissions, "are your udev rules wrong?", "plugdev"),
        ("no permissions", NoPermissions, "may not be opened", "udev rules"),
        ("hibernating", WrongState, "a state unknown to us, 'hibernating'", "up to date"),
    ],
)
def test_every_state_says_what_it_is_and_what_to_do(state: str, kind: type[PhoneError], what: str, fix: str) -> None:
    (phone,) = parse_devices(f"{TITLE}ABC123                 {state}\n")
    assert phone.serial == "ABC123"
    assert phone.problem.startswith("ABC123 ") and what in phone.problem and "\n" not in phone.problem
    assert fix in phone.fix
    error = phone.error()
    assert type(error) is kind and error.message == phone.problem and error.hint == phone.fix


def test_an_emulator_that_starts_is_no_phone_with_a_bad_cable() -> None:
    assert "emulator has started" in Listed("emulator-5554", "offline").fix
    assert "unplug" in Listed("ABC", "offline").fix


serials = st.text("abcdefghijklmnopqrstuvwxyz0123456789.:_-", min_size=1).filter(is_serial)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1)


@given(
    st.lists(
        st.tuples(serials, st.sampled_from(["device", "offline", "unauthorized", NO_PERMISSIONS, "recovery"]), words),
        max_size=6,
    )
)
def test_what_adb_lists_is_read_back(rows: list[tuple[str, str, str]]) -> None:
    lines = [f"{serial:<22} {state} model:{model} transport_id:1" for serial, state, model in rows]
    found = parse_devices(TITLE + "".join(line + "\n" for line in lines))
    assert [(phone.serial, phone.state, phone.about["model"]) for phone in found] == [
        (serial, state.split(" (")[0], model) for serial, state, model in rows
    ]


@given(st.text())
def test_no_text_breaks_the_list(text: str) -> None:
    for phone in parse_devices(TITLE + text):
        assert phone.serial and phone.state
        assert phone.problem == "" or phone.fix
        assert isinstance(phone.error(), PhoneError | None)


@pytest.mark.parametrize(
    "text", ["", "-s", "--help", "a b", "a\nb", "a\tb", "\x1b[0m", "a\u00a0b", "(no serial number)"]
)
def test_what_can_be_no_serial(text: str) -> None:
    with pytest.raises(BadSerial, match="is no serial of a phone"):
        check_serial(text)


@pytest.mark.parametrize("text", ["39111FDJG00ABC", "emulator-5554", "192.168.1.2:5555", "[::1]:5555", "$(id);'"])
def test_what_can_be_a_serial(text: str) -> None:
    assert check_serial(text) == text


def test_an_address_is_told_from_a_serial() -> None:
    assert is_address("192.168.1.2:5555") and is_address("[::1]:5") and is_address("phone.lan:5555")
    assert not any(map(is_address, ("ABC123", "emulator-5554", "a:b", ":5", "a:", "a b:5")))


# --- the end of a command


def run_here(line: str) -> tuple[bytes, bytes]:
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "code", "stdout", "stderr"),
    [
        ("printf 'no newline'", 0, "no newline", ""),
        ("echo; echo; exit 3", 3, "\n\n", ""),
        ("printf out; printf err >&2; false", 1, "out", "err"),
        ("exec true", 0, "", ""),
        ("set -e; false; echo no", 1, "", ""),
        ("printf 'a\\r\\nb\\r\\n'", 0, "a\r\nb\r\n", ""),
        ("printf '\\377'", 0, "\ufffd", ""),
        ("kill -SEGV $$", 139, "", None),
        ("if (", 2, "", None),
        ("cat <<X\na 'b'\nX", 0, "a 'b'\n", ""),
        ("echo x # comment", 0, "x\n", ""),
    ],
)
def test_a_command_between_its_marks_comes_back_unchanged(
    command: str, code: int, stdout: str, stderr: str | None
) -> None:
    wrapped = marked(command)
    out, err = run_here(wrapped.line)
    assert wrapped.ended(out, err)
    read = wrapped.read(out, err)
    assert read is not None and read[:2] == (code, stdout)
    assert stderr is None or read[2] == stderr


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 255))
def test_any_output_comes_back_and_no_part_of_it_passes_for_the_whole(out: bytes, err: bytes, code: int) -> None:
    wrapped = marked("true")
    whole = out + f"{wrapped.mark}:{code}\n".encode()
    said = err + f"{wrapped.mark}:stderr\n".encode()
    assert wrapped.read(whole, said) == (code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
    for cut in {0, len(out), len(whole) - 1, len(whole) // 2}:
        assert wrapped.read(whole[:cut], said) is None and not wrapped.ended(whole[:cut], said)
    # A phone without the shell protocol: one stream, through a terminal that adds CR. (A bare CR stays.)
    merged = (out + f"{wrapped.mark}:stderr\n{wrapped.mark}:{code}\n".encode()).replace(b"\n", b"\r\n")
    assert wrapped.read(merged, b"") == (code, out.decode("utf-8", "replace"), "")
    assert wrapped.ended(merged, b"")


def test_a_command_that_prints_its_own_line_has_not_ended() -> None:
    wrapped = marked("ps -ef")
    listing = f"shell 1 sh -c {wrapped.line}\n".encode()
    assert wrapped.read(listing, b"") is None
    assert wrapped.read(listing + f"{wrapped.mark}:0\n".encode(), b"") == (0, listing.decode(), "")


def test_output_that_a_background_process_adds_later_is_not_the_commands() -> None:
    wrapped = marked("x &")
    assert wrapped.read(f"a\n{wrapped.mark}:0\nlate\n".encode(), b"") == (0, "a\n", "")


def test_marks_are_not_to_be_guessed() -> None:
    assert len({marked("x").mark for _ in range(100)}) == 100


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_words_are_quoted_and_a_line_stands(texts: list[str]) -> None:
    assert shlex.split(as_line(texts)) == texts
    assert as_line(texts[0]) == texts[0]


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        as_line("echo \0")
    with pytest.raises(ValueError, match="push it as a script"):
        as_line("x" * (MAX_LINE_BYTES + 1))


# --- what a text means


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server'",
            Unauthorized,
        ),
        ("adb: device unauthorized.", Unauthorized),
        ("failed to authenticate to 127.0.0.1:5", Unauthorized),
        ("error: device still authorizing", Unauthorized),
        ("error: device offline", Offline),
        ("adb: device offline", Offline),
        ("error: device still connecting", Offline),
        ("adb: insufficient permissions for device: user in plugdev group", NoPermissions),
        ("adb: device 'X' not found", LinkLost),
        ("error: device not found", LinkLost),
        ("error: no devices/emulators found", LinkLost),
        ("adb: cannot connect to daemon at tcp:5037: Connection refused", ServerLost),
        ("adb: failed to check server version: protocol fault (couldn't read status): Success", ServerLost),
        ("could not install *smartsocket* listener: Address already in use", ServerLost),
    ],
)
def test_the_clients_words_about_a_phone(text: str, kind: type[PhoneError]) -> None:
    error = client_error(text, "X")
    assert type(error) is kind and error.hint


@pytest.mark.parametrize("text", ["", "error: closed\n", "ls: nosuch: not found\n"])
def test_words_that_name_no_state(text: str) -> None:
    assert client_error(text, "X") is None


def fails(code: int, stderr: str, command: str = "tool --x") -> PhoneError:
    return command_error(command, Output(code, "", stderr))


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ("/system/bin/sh: nosuch: not found\n", "nosuch"),
        ("/system/bin/sh: nosuch: inaccessible or not found\n", "nosuch"),
        ("E: sh: nosuch: not found\n", "nosuch"),
        ("sh: <stdin>[2]: /x/a b: inaccessible or not found\n", "/x/a b"),
        ("script.sh[3]: nosuch: inaccessible or not found\n", "nosuch"),
        ("env: exec nosuch: No such file or directory\n", "nosuch"),
        ("warning first\nsh: nosuch: not found\n", "nosuch"),
        ("", "tool"),
    ],
)
def test_a_missing_command_is_named(stderr: str, word: str) -> None:
    error = fails(127, stderr)
    assert type(error) is CommandMissing and error.word == word
    assert str(error).startswith(f"the phone has no command {word!r}")


def test_a_program_without_its_libraries_is_not_a_missing_command() -> None:
    error = fails(127, "./pf: error while loading shared libraries: libx.so: cannot open shared object file\n")
    assert type(error) is CommandFailed and "libx.so" in str(error)


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (1, "/system/bin/sh: ./x: not executable: 64-bit ELF file\n"),
        (1, "E: sh: /data/local/tmp/x: not executable: 32-bit ELF file\n"),
        (126, "sh: ./x: Exec format error\n"),
        (1, 'error: "/data/local/tmp/x": "x" is 32-bit instead of 64-bit\n'),
        (1, 'CANNOT LINK EXECUTABLE "./x": "x" is for EM_X86_64 (62) instead of EM_AARCH64 (183)\n'),
    ],
)
def test_a_program_of_another_processor(code: int, stderr: str) -> None:
    error = fails(code, stderr)
    assert type(error) is WrongAbi and "ro.product.cpu.abi" in error.hint


def test_the_other_ends_of_a_command() -> None:
    assert type(fails(1, "cat: xwrite: No space left on device\n")) is NoSpace
    assert type(fails(1, "sh: /x: create: Read-only file system\n")) is ReadOnly
    denied = Output(126, "", "sh: ./x: can't execute: Permission denied\n")
    assert type(command_error("./x", denied)) is PermissionDenied
    assert denied_path(denied) == "./x"
    assert denied_path(Output(126, "", "sh: /data: can't execute: Is a directory\n")) == ""
    assert denied_path(Output(1, "", denied.stderr)) == ""
    failed = fails(3, "one\ntwo\n")
    assert type(failed) is CommandFailed and failed.code == 3 and failed.stderr == "one\ntwo\n"
    assert str(failed) == "on the phone, 'tool --x' ended with code 3:\none\ntwo"


# Texts of adb 29 and 34, taken from real runs; 36's are on stderr alike.
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("remote write failed: No space left on device", NoSpace),
        ("remote couldn't create file: Read-only file system", ReadOnly),
        ("remote couldn't create file: Permission denied", PermissionDenied),
        ("remote couldn't create file: Is a directory", IsDirectory),
        ("couldn't read from device", LinkLost),
        ("failed to read copy response", LinkLost),
        ("remote couldn't create file: No such file or directory", PushFailed),
    ],
)
@pytest.mark.parametrize(
    "prefix", ["adb: error: failed to copy '/L' to '/R': ", "error: failed to copy '/L' to '/R': "]
)
def test_what_a_failed_push_says(said: str, kind: type[PhoneError], prefix: str) -> None:
    text = f"{prefix}{said}\n/L: 1 file pushed, 0 skipped. 223.3 MB/s (8388608 bytes in 0.036s)\n"
    assert type(push_error(text, "/L", "/R")) is kind


@pytest.mark.parametrize("text", ["", "\n", "[  6%] R\n", "[  6%] R\r[ 12%] R\n"])
def test_a_transfer_whose_server_died_says_nothing_or_only_how_far_it_came(text: str) -> None:
    assert type(push_error(text, "L", "R")) is type(pull_error(text, "L", "R")) is LinkLost


def test_a_files_name_is_not_taken_for_an_error() -> None:
    local, remote = "/here/No space left on device", "/there/Read-only file system"
    text = f"adb: error: failed to copy '{local}' to '{remote}': remote couldn't create file: Too many links"
    assert type(push_error(text, local, remote)) is PushFailed
    assert type(pull_error(f"adb: error: cannot write '{local}': Bad", local, remote)) is PullFailed


def test_a_full_disk_here_is_not_the_phones() -> None:
    error = pull_error("adb: error: cannot write 'L': No space left on device\n", "L", "R")
    assert type(error) is PullFailed and "this computer" in error.hint


@given(st.text(), st.text(min_size=1), st.text(min_size=1), st.integers(1, 255))
def test_no_text_breaks_the_judges(text: str, local: str, remote: str, code: int) -> None:
    assert isinstance(push_error(text, local, remote), PhoneError)
    assert isinstance(pull_error(text, local, remote), PhoneError)
    assert isinstance(command_error(local, Output(code, text, remote)), PhoneError)
    assert isinstance(client_error(text, local), PhoneError | None)
    assert "\n" not in last_line(text)


MOUNTS = """\
/dev/root / ext4 ro,seclabel,relatime 0 0
tmpfs /storage tmpfs rw,noexec 0 0
/dev/fuse /storage/emulated fuse rw,nosuid,nodev,noexec,noatime 0 0
/dev/block/dm-44 /data f2fs rw,nosuid,nodev,noatime 0 0
tmpfs /data/no\\040exec tmpfs rw,noexec 0 0
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/storage/emulated/0/x", "/storage/emulated"),
        ("/storage/x", "/storage"),
        ("/data/local/tmp/x", None),
        ("/data/no exec/x", "/data/no exec"),
        ("/data/no exec2/x", None),
        ("/x", None),
    ],
)
def test_the_mount_that_forbids_starting(path: str, mount: str | None) -> None:
    assert mount_of(path, MOUNTS) == mount


# --- errors


def test_every_error_is_in_the_tree_and_crosses_a_pipe() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PhoneError)]
    made: list[PhoneError] = [
        kind("message", "hint") for kind in kinds if kind not in (CommandMissing, CommandFailed, errors.RunnerFailed)
    ]
    made += [
        CommandMissing("ls", "hint"), CommandFailed("ls", 2, "out", "err"), errors.RunnerFailed("message", 3, "err")
    ]  # fmt: skip
    for error in made:
        assert errors.__doc__ is not None and f"{type(error).__name__} " in errors.__doc__
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
    said = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if "(t) " in line}
    assert {kind.__name__ for kind in kinds if kind.transient} == said


# --- repeating


class Phone:
    """Fails with each error in turn, then answers."""

    def __init__(self, *faults: PhoneError) -> None:
        self.faults = list(faults)
        self.waits = 0

    def act(self) -> str:
        if self.faults:
            raise self.faults.pop(0)
        return "done"

    def wait(self, limit_s: float) -> None:
        assert limit_s > 0
        self.waits += 1


def test_a_dropped_link_is_waited_for_and_the_same_done_again() -> None:
    phone = Phone(LinkLost("one"), TransferDamaged("two"))
    assert repeated(phone.act, phone.wait) == "done" and phone.waits == 2


def test_what_repeating_cannot_help_is_raised_at_once() -> None:
    for fault in (NoSpace("full"), CommandFailed("x", 1), Unauthorized("no")):
        phone = Phone(fault)
        with pytest.raises(type(fault)):
            repeated(phone.act, phone.wait)
        assert phone.waits == 0


@pytest.mark.parametrize(("away", "raised"), [(Offline("away"), LinkLost), (Unauthorized("asks"), Unauthorized)])
def test_a_phone_that_stays_away(away: PhoneError, raised: type[PhoneError]) -> None:
    def wait(limit_s: float) -> None:
        raise away

    with pytest.raises(raised) as caught:
        repeated(Phone(LinkLost("one")).act, wait)
    assert away in (caught.value, caught.value.__cause__)


def test_the_last_trys_error_is_raised() -> None:
    phone = Phone(*(LinkLost(f"try {number}") for number in range(5)))
    with pytest.raises(LinkLost, match="try 2"):
        repeated(phone.act, phone.wait)
    assert phone.waits == 2


# --- the server


@pytest.mark.parametrize(
    ("variables", "where", "local"),
    [
        ({}, Address("tcp", "tcp:5037", "", 5037), True),
        ({"ANDROID_ADB_SERVER_PORT": "5038"}, Address("tcp", "tcp:5038", "", 5038), True),
        ({"ANDROID_ADB_SERVER_PORT": ""}, Address("tcp", "tcp:5037", "", 5037), True),
        ({"ANDROID_ADB_SERVER_ADDRESS": "box"}, Address("tcp", "tcp:box:5037", "box", 5037), False),
        (
            {"ADB_SERVER_SOCKET": "tcp:box:1", "ANDROID_ADB_SERVER_PORT": "2"},
            Address("tcp", "tcp:box:1", "box", 1),
            False,
        ),
        ({"ADB_SERVER_SOCKET": "tcp:localhost:7"}, Address("tcp", "tcp:localhost:7", "localhost", 7), True),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:7"}, Address("tcp", "tcp:[::1]:7", "::1", 7), False),
        ({"ADB_SERVER_SOCKET": "localfilesystem:/a:b"}, Address("path", "localfilesystem:/a:b", name="/a:b"), True),
        ({"ADB_SERVER_SOCKET": "localabstract:adb"}, Address("abstract", "localabstract:adb", name="adb"), True),
    ],
)
def test_where_the_server_listens(variables: dict[str, str], where: Address, local: bool) -> None:
    assert address(variables) == where and where.local is local


@pytest.mark.parametrize(
    "spec", ["", "tcp", "tcp:", "tcp:x", "tcp:0", "tcp:70000", "vsock:2:5", "localfilesystem:", "foo:bar"]
)
def test_no_address(spec: str) -> None:
    with pytest.raises(ServerLost, match="no address we can ask"):
        address({"ADB_SERVER_SOCKET": spec})


def test_the_version_that_client_and_server_share() -> None:
    assert interface("1.0.41 (34.0.5-debian)") == interface("1.0.41") == 41
    assert interface("2") == 2 and interface("x") == 0


def answering(*answers: bytes, hang: bool = False) -> tuple[Address, list[bytes], threading.Thread]:
    """A server on a free port of this computer that gives each connection an answer, and what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        with listener:
            for answer in answers:
                link, _ = listener.accept()
                with link:
                    asked.append(link.recv(100))
                    if hang:
                        link.recv(1)
                    link.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    return Address("tcp", f"tcp:127.0.0.1:{port}", "127.0.0.1", port), asked, thread


def test_the_server_is_asked_its_version_and_nothing_else() -> None:
    where, asked, thread = answering(b"OKAY00040029")
    assert check(where, "1.0.41 (34.0.5)", "adb")
    thread.join()
    assert asked == [b"000chost:version"]


def test_a_server_of_another_version_is_left_alone() -> None:
    where, asked, thread = answering(b"OKAY00040027")
    with pytest.raises(ServerMismatch) as caught:
        check(where, "1.0.41 (34.0.5)", "/opt/adb")
    thread.join()
    assert asked == [b"000chost:version"]
    for part in (where.spec, "1.0.39", "1.0.41 (34.0.5)", "/opt/adb", "was not started"):
        assert part in caught.value.message
    assert "POCKETFORGE_ADB" in caught.value.hint and "ADB_SERVER_SOCKET" in caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"OK",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"FAIL0007unknown",
        b"OKAY",
        b"OKAYzzzz",
        b"OKAY0004zzzz",
        b"OKAY00040",
    ],
)
def test_what_is_no_adb_server_is_said(answer: bytes) -> None:
    where, _, thread = answering(answer)
    with pytest.raises(ServerLost, match="did not answer as an adb server does") as caught:
        ask_version(where)
    thread.join()
    assert where.spec in caught.value.message


def test_a_server_that_hangs_is_not_waited_for() -> None:
    where, _, thread = answering(b"OKAY00040029", hang=True)
    with pytest.raises(ServerLost, match="did not answer within") as caught:
        ask_version(where, 0.2)
    thread.join()
    assert where.spec in caught.value.message


def test_no_server_here_may_be_started_and_elsewhere_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert check(Address("tcp", f"tcp:{port}", "", port), "1.0.41", "adb") is False
    with pytest.raises(ServerLost, match="no adb server answers at"):
        check(Address("tcp", f"tcp:127.0.0.1:{port}", "127.0.0.1", port), "1.0.41", "adb")
