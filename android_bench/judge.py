"""What a text means: of the adb client when no command ran, and of a phone's command that failed.

The client's texts are those of AOSP adb/transport.cpp and adb/client/*.cpp (versions 29 to 36 differ in the prefix,
"error:" or "adb:"); the shell's are mksh's and toybox's, which Android ships.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from android_bench.errors import (
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
    Unauthorized,
    WrongAbi,
)

FREE_SPACE = "free space on the phone: adb shell df -h, then remove what is not needed under /data/local/tmp"
PRIVATE_FOLDER = "adb's shell user may write to /data/local/tmp and start programs from there"
_NO_ANSWER = "is its cable or network steady? The next command asks again"
# mksh: "sh: foo: not found", "sh: foo: inaccessible or not found", "sh: <stdin>[2]: /x/foo: not found".
_SAID_BY = r"^(?:.*?sh|\S+\[\d+\]|env): (?:\S+\[\d+\]: |exec )?"
_MISSING = re.compile(_SAID_BY + r"(?P<word>.+?): (?:inaccessible or )?not found$", re.M)
_ENV_MISSING = re.compile(r"^env: (?:exec )?(?P<word>.+?): No such file or directory$", re.M)
_DENIED = re.compile(_SAID_BY + r"(?P<path>.+?): can't execute: Permission denied$", re.M)
# mksh's own words; Linux's; the dynamic linker's of Android ("x" is 32-bit instead of 64-bit, is for EM_X86_64 …).
_WRONG_ABI = re.compile(
    r"not executable: .*ELF file|Exec format error|cannot execute binary file|"
    r"is (?:32|64)-bit instead of (?:32|64)-bit|is for EM_\w+ \(\d+\) instead of EM_\w+"
)
_TALK = re.compile(r"^\* |^\[ *\d+%\]|: \d+ files? pu(?:sh|ll)ed, \d+ skipped")
_LOST_TRANSFER = (
    "couldn't read from device", "failed to read copy response", "connect failed", "protocol fault", "EOF",
    "error: closed", "connection reset", "Broken pipe", "not found", "device offline",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Output:
    """What a command on the phone did. stderr is in stdout when the phone is older than Android 7."""

    code: int
    stdout: str
    stderr: str


def client_error(text: str, serial: str) -> PhoneError | None:
    """The error that the client's text names when it reached no phone, or None when it names none."""
    if "unauthorized" in text or "failed to authenticate" in text:
        return Unauthorized(
            f"{serial} has not said yes to this computer's key", 'unlock it and tap "Allow" in its dialog'
        )
    if "still authorizing" in text:
        return Unauthorized(f"{serial} is checking this computer's key", "wait a moment and ask again")
    if "device offline" in text or "still connecting" in text:
        return Offline(f"{serial} is connected and does not answer adb", _NO_ANSWER)
    if "insufficient permissions" in text or "no permissions" in text:
        return NoPermissions(
            f"{serial} may not be opened by this user", "Linux: install the Android udev rules, then plug it in again"
        )
    if re.search(r"device(?: '[^']*')? not found|no devices(?:/emulators)? found|device detached", text):
        return LinkLost(f"{serial} is no longer in adb's list", _NO_ANSWER)
    if re.search(r"cannot connect to daemon|failed to check server version|failed to start daemon|smartsocket", text):
        return ServerLost(f"the adb server does not answer: {last_line(text)}", "see: adb devices")
    return None


def command_error(command: str, output: Output) -> PhoneError:
    """The error of a command that ended with a code other than 0. For code 126 see also `denied_path`."""
    text = output.stderr or output.stdout
    if output.code == 127 and (missing := _MISSING.search(text) or _ENV_MISSING.search(text)) is not None:
        return _missing(missing["word"])
    if output.code == 127 and not text.strip():
        return _missing(_first_word(command))
    if output.code in (1, 126) and _WRONG_ABI.search(text):
        return WrongAbi(
            f"the phone cannot run this program: {last_line(text)}",
            "build it for the phone's processor (ABI): adb shell getprop ro.product.cpu.abi",
        )
    if output.code == 126 and "Permission denied" in text:
        return PermissionDenied(
            f"the phone does not let adb start it: {last_line(text)}",
            f"is it executable (chmod 755), and its storage not mounted noexec? {PRIVATE_FOLDER}",
        )
    if "No space left on device" in text:
        return NoSpace(f"the phone's storage is full: {command!r} said: {last_line(text)}", FREE_SPACE)
    if "Read-only file system" in text:
        return ReadOnly(f"that storage cannot be written: {command!r} said: {last_line(text)}", PRIVATE_FOLDER)
    return CommandFailed(command, output.code, output.stdout, output.stderr)


def denied_path(output: Output) -> str:
    """The file that the shell may not start (code 126), or "" when the text does not say one."""
    found = _DENIED.search(output.stderr or output.stdout) if output.code == 126 else None
    return found["path"] if found is not None else ""


def push_error(text: str, local: str, remote: str) -> PhoneError:
    """The error of a failed `adb push`. `text`: all that the client said, on either stream."""
    said = last_line(_without_names(text, local, remote))
    if "No space left on device" in said:
        return NoSpace(f"{remote} does not fit on the phone: {said}", FREE_SPACE)
    if "Read-only file system" in said:
        return ReadOnly(f"{remote} is on storage that cannot be written: {said}", PRIVATE_FOLDER)
    if "Permission denied" in said or "Operation not permitted" in said:
        return PermissionDenied(f"adb's shell user may not write {remote}: {said}", PRIVATE_FOLDER)
    if "Is a directory" in said:
        return is_directory(remote)
    if (lost := _lost(said, f"pushing {remote}")) is not None:
        return lost
    return PushFailed(f"{local} could not be pushed to {remote}: {said or 'adb said nothing'}", "see: adb devices")


def pull_error(text: str, local: str, remote: str) -> PhoneError:
    """The error of a failed `adb pull`. A full or read-only disk is this computer's here, never the phone's."""
    said = last_line(_without_names(text, local, remote))
    if (lost := _lost(said, f"pulling {remote}")) is not None:
        return lost
    return PullFailed(
        f"{remote} could not be pulled to {local}: {said or 'adb said nothing'}",
        "is there space on this computer, and may this user write there?",
    )


def is_directory(remote: str) -> IsDirectory:
    """The error of a file wanted where the phone has a directory."""
    return IsDirectory(f"{remote} is a directory on the phone; a file was wanted", "give the file's whole path")


def last_line(text: str) -> str:
    """The last line that says something, without adb's prefixes; a failed push still ends with "1 file pushed"."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _TALK.search(line)]
    return re.sub(r"^(?:(?:adb|error|[EW]): )+", "", lines[-1]) if lines else ""


def _lost(said: str, doing: str) -> LinkLost | None:
    # Nothing said at all is how adb 29 and 34 end when their server dies.
    if said and not any(text in said for text in _LOST_TRANSFER):
        return None
    return LinkLost(f"the link to the phone dropped while {doing}" + (f" ({said})" if said else ""), _NO_ANSWER)


def _without_names(text: str, local: str, remote: str) -> str:
    # A file may be called "No space left on device".
    return text.replace(local, "FILE").replace(remote, "REMOTE")


def _missing(word: str) -> CommandMissing:
    return CommandMissing(
        word, "its path, if it has one, may be wrong, or its loader may be missing; toybox --help lists what there is"
    )


def _first_word(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return words[0] if words else command
