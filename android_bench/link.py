"""One phone: shell commands that are known to have ended, files that are known to be whole, and waiting for it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from android_bench.errors import (
    ConnectFailed,
    LinkLost,
    NotExecutable,
    PhoneError,
    PhoneTimeout,
    ServerLost,
    Unauthorized,
)
from android_bench.judge import PRIVATE_FOLDER, Output, client_error, command_error, denied_path, last_line
from android_bench.lines import as_line, marked
from android_bench.listing import check_serial, is_address
from android_bench.repeating import ATTEMPTS, repeated
from android_bench.seams import Caller
from android_bench.server import ask_version
from android_bench.transfer import pull, push

# An echo over a link that works takes milliseconds; over a busy Wi-Fi, or a phone just awoken, seconds.
_ECHO_TIMEOUT_S = 5.0
_POLL_S = 0.2
_RECONNECT_EVERY_S = 1.0
# adb's words, old and new, to -T for a phone older than Android 7: no terminal can be had or refused there.
_NO_SHELL_PROTOCOL = ("only supports allocating a pty", "doesn't support PTY args")


class Link:
    """A phone that adb listed as usable. May be used from several threads."""

    def __init__(self, adb: Caller, serial: str) -> None:
        self.adb = adb
        self.serial = check_serial(serial)
        self._flags: tuple[str, ...] = ("-n", "-T")

    def __repr__(self) -> str:
        return f"Link({self.serial!r})"

    def shell(self, command: str | Sequence[str], *, timeout_s: float = 30, repeat: bool = False) -> Output:
        """Run a command to its end, whatever its exit code.

        command: a shell line as it stands, or words that are quoted here. repeat: running it twice does no harm, so it
        is tried again when the link drops, up to twice, after waiting for the phone. timeout_s: of each try. A command
        may leave a process in the background, but what that writes to stdout or stderr later is lost.

        Raises LinkLost, PhoneTimeout, Offline, ServerLost; Unauthorized, NoPermissions, WrongState when the phone
        changed its state; ServerMismatch; ValueError for a command that cannot be sent.
        """
        line = as_line(command)
        return repeated(lambda: self.once(line, timeout_s), self.wait, ATTEMPTS if repeat else 1)

    def run(self, command: str | Sequence[str], *, timeout_s: float = 30, repeat: bool = False) -> str:
        """As `shell`, for a command that must end with code 0; its stdout.

        Raises also CommandMissing, NotExecutable, PermissionDenied, WrongAbi, NoSpace, ReadOnly and CommandFailed.
        """
        output = self.shell(command, timeout_s=timeout_s, repeat=repeat)
        if output.code == 0:
            return output.stdout
        raise self._noexec(output) or command_error(as_line(command), output)

    def push(self, local: Path, remote: str, *, executable: bool = False, timeout_s: float = 600) -> None:
        """Put a file on the phone, whole or not at all; see transfer.py."""
        push(self, local, remote, executable=executable, timeout_s=timeout_s)

    def pull(self, remote: str, local: Path, *, timeout_s: float = 600) -> None:
        """Fetch a file from the phone, whole or not at all; see transfer.py."""
        pull(self, remote, local, timeout_s=timeout_s)

    def wait(self, timeout_s: float) -> None:
        """Wait until the phone runs a command again. A phone on the network that fell out of adb's list is connected.

        adb's list alone proves nothing: a frozen link stays "device" there. Raises the error of the phone's last state:
        LinkLost (not in the list), Offline, Unauthorized, NoPermissions, WrongState, PhoneTimeout (frozen), ServerLost,
        ServerMismatch.
        """
        deadline = time.monotonic() + timeout_s
        connect_at = 0.0
        while True:
            left = max(deadline - time.monotonic(), 0.5)
            try:
                listed = next((phone for phone in self.adb.devices() if phone.serial == self.serial), None)
                if listed is None and is_address(self.serial) and time.monotonic() >= connect_at:
                    connect_at = time.monotonic() + _RECONNECT_EVERY_S
                    self.adb.connect(self.serial, left)
                    continue
                error = self._gone() if listed is None else listed.error()
                if error is None:
                    self.once(":", min(_ECHO_TIMEOUT_S, left), ask_again=False)
                    return
            except (ConnectFailed, Unauthorized) as failed:
                error = failed
            except PhoneError as failed:
                if not failed.transient:
                    raise
                error = failed
            if time.monotonic() >= deadline:
                raise error
            time.sleep(_POLL_S)

    def listed(self) -> bool:
        """Whether adb lists the phone as usable now; a frozen link still is."""
        try:
            return any(phone.serial == self.serial and phone.state == "device" for phone in self.adb.devices())
        except ServerLost:
            return False

    def once(self, line: str, timeout_s: float, *, ask_again: bool = True) -> Output:
        """One try of a shell line, as `shell`. ask_again: after the limit, see whether the phone answers at all."""
        wrapped = marked(line)
        arguments = ["-s", self.serial, "shell", *self._flags, wrapped.line]
        done = self.adb.call(arguments, timeout_s, wrapped.ended, may_be_late=True)
        read = wrapped.read(done.stdout, done.stderr)
        if read is not None:
            return Output(*read)
        text = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
        if "-T" in self._flags and any(words in text for words in _NO_SHELL_PROTOCOL):
            self._flags = ("-n",)
            return self.once(line, timeout_s, ask_again=ask_again)
        if done.late:
            raise self.late(shown(line) if line != ":" else "an empty command", timeout_s, ask_again=ask_again)
        raise self._unfinished(line, done.stderr.decode("utf-8", "replace"))

    def late(self, doing: str, timeout_s: float, *, ask_again: bool = True) -> PhoneTimeout:
        """The error of something that passed its limit; whether the phone answers an echo tells slow from frozen."""
        what = f"{doing} did not end within {timeout_s:g} s"
        if ask_again:
            try:
                self.once(":", _ECHO_TIMEOUT_S, ask_again=False)
            except PhoneError:
                pass
            else:
                error = PhoneTimeout(
                    f"{what}; the phone answers other commands", "give it more time; it may still run on the phone"
                )
                error.answers = True
                return error
        again = f" (adb disconnect {self.serial}, then adb connect it)" if is_address(self.serial) else ""
        return PhoneTimeout(
            f"{what}; nothing is heard from {self.serial}, though adb lists it",
            f"unlock it, then unplug and plug it in again{again}; the command may still run on it",
        )

    def _unfinished(self, line: str, stderr: str) -> PhoneError:
        """Why a command's end was not seen: the client's words first, then the server, then adb's list."""
        said = client_error(stderr, self.serial)
        if said is not None:
            return said
        what = f"{shown(line)} was under way"
        if ask_version(self.adb.server) is None:
            return ServerLost(
                f"the adb server at {self.adb.server.spec} ended while {what}",
                "something killed it (another adb, an IDE, kill-server); the next command starts one",
            )
        listed = next((phone for phone in self.adb.devices() if phone.serial == self.serial), None)
        state = f" (adb now says: {listed.state if listed else 'not in the list'})"
        error = listed.error() if listed is not None else None
        if error is not None and not error.transient:
            return error
        detail = f": {last_line(stderr)}" if stderr.strip() else ""
        cause = "dropped, or its shell was killed," if listed is not None and error is None else "dropped"
        return LinkLost(
            f"the link to {self.serial} {cause} while {what}{detail}{state}; what it did on the phone is not known",
            "is its cable or network steady?",
        )

    def _gone(self) -> LinkLost:
        return LinkLost(f"{self.serial} is no longer in adb's list", "is it on, and plugged in or on the network?")

    def _noexec(self, output: Output) -> NotExecutable | None:
        """Code 126 is a missing x bit, or a mount of which nothing can be started: the phone's own tables tell."""
        path = denied_path(output)
        if not path:
            return None
        quoted = shlex.quote(path)
        found = self.shell(f"stat -c %a {quoted} && realpath {quoted} && cat /proc/mounts", repeat=True)
        mode, _, rest = found.stdout.partition("\n")
        real, _, mounts = rest.partition("\n")
        if found.code or not mode.strip().isdecimal() or not int(mode, 8) & 0o111:
            return None
        mount = mount_of(real, mounts)
        if mount is None:
            return None
        return NotExecutable(f"{path} cannot be started: {mount} is mounted noexec", PRIVATE_FOLDER)


def shown(line: str) -> str:
    """A command for a message, cut when long."""
    first = line if len(line) <= 100 else line[:99] + "…"
    return repr(first)


def mount_of(path: str, mounts: str) -> str | None:
    """The mount point that holds the path, when it is noexec. mounts: /proc/mounts, blanks in it as \\040."""
    best, noexec = "", False
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of several mounts on one point the last covers
            best, noexec = point, "noexec" in fields[3].split(",")
    return best if noexec else None
