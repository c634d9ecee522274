"""Everything that can go wrong between this computer and a phone.

Each error says what was wanted, what was found and what to do.

PhoneError                base; never raised itself
├── AdbMissing            no adb program on this computer
├── ServerMismatch        the adb server that runs is of another version; asking it by our adb would kill it
├── ServerLost       (t)  the adb server does not answer, could not be started, or died
├── NoPhone               adb's list is empty
├── SeveralPhones         more than one, and none was named
├── UnknownSerial         the named one is not in adb's list
├── BadSerial             text that cannot be a serial
├── Unauthorized          the phone has not said yes to this computer's key
├── Offline          (t)  in the list, and not answering
├── NoPermissions         this user may not open the USB device
├── WrongState            recovery, sideload, bootloader … : not Android
├── ConnectFailed         `adb connect` did not reach a phone
├── LinkLost         (t)  the link dropped before the command had finished
├── PhoneTimeout     (t)  nothing heard within the hard limit
├── NoSpace               the phone's storage is full
├── ReadOnly              that part of the phone's storage cannot be written
├── PermissionDenied      adb's shell user may not do that
├── IsDirectory           a file was to be written where a directory is
├── NotExecutable         the file lies on a noexec mount
├── WrongAbi              the program is for another processor
├── CommandMissing        the phone has no such command
├── CommandFailed         a command ended with a code other than 0
├── TransferDamaged       size or SHA-256 differ after a push or pull
├── PushFailed            adb could not push, for another reason
├── PullFailed            adb could not pull, for another reason
├── PhoneBusy             another session uses the phone
├── TooHot                the phone did not cool down in time
├── BatteryLow            the battery's level is below the limit
├── FakedReadings         a test override is on: the phone's heat or battery readings are not its own
├── BadCores              such cores cannot be chosen on this phone, or it does not let us run on them
├── BadFile               a file to be measured or pushed is missing, or is not what was announced
├── SessionGone           our folder on the phone is gone: its watchdog had not heard of us, or someone removed it
├── RunnerFailed          the measuring program failed on the phone
├── Rebooted              the phone restarted in mid-session
└── BadOutput             a runner's output cannot be read

(t): `transient`, waiting and asking again may help.
"""

from __future__ import annotations

from typing import Any

_TAIL_LINES = 12


class PhoneError(Exception):
    """What was wanted and what was found (`message`), and what to try (`hint`)."""

    transient = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross pipes between processes: constructors differ, attributes do not.
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[PhoneError], attributes: dict[str, Any]) -> PhoneError:
    error = kind.__new__(kind, attributes["message"])
    error.__dict__.update(attributes)
    error.args = (attributes["message"],)
    return error


class AdbMissing(PhoneError):
    """There is no adb program on this computer, or it does not start."""


class ServerMismatch(PhoneError):
    """The adb server that runs is of another version. Our client would kill it, and the user's other tools with it."""


class ServerLost(PhoneError):
    """The adb server does not answer, could not be started, or died in mid-command."""

    transient = True


class NoPhone(PhoneError):
    """adb's list of devices is empty."""


class SeveralPhones(PhoneError):
    """There are several phones, and none was named."""


class UnknownSerial(PhoneError):
    """The named phone is not in adb's list."""


class BadSerial(PhoneError):
    """Text that cannot be a serial: empty, an option of adb's, or with spaces or control characters."""


class Unauthorized(PhoneError):
    """The phone has not said yes to this computer's key."""


class Offline(PhoneError):
    """The phone is in adb's list and does not answer."""

    transient = True


class NoPermissions(PhoneError):
    """This user may not open the phone's USB device."""


class WrongState(PhoneError):
    """The phone does not run Android now: recovery, rescue, sideload, bootloader, or a state unknown to us."""


class ConnectFailed(PhoneError):
    """`adb connect` did not reach a phone."""


class LinkLost(PhoneError):
    """The link dropped before the command had finished. Whether it did its work is not known."""

    transient = True


class PhoneTimeout(PhoneError):
    """The command had not finished within its hard limit. `answers`: the phone was heard just after (it is slow)."""

    transient = True
    answers = False


class NoSpace(PhoneError):
    """The phone's storage is full."""


class ReadOnly(PhoneError):
    """That part of the phone's storage cannot be written."""


class PermissionDenied(PhoneError):
    """adb's shell user may not do that on the phone."""


class IsDirectory(PhoneError):
    """A file was to be read or written where the phone has a directory."""


class NotExecutable(PhoneError):
    """The file lies on a mount of which nothing can be started (noexec)."""


class WrongAbi(PhoneError):
    """The program was built for another processor than the phone's."""


class CommandMissing(PhoneError):
    """The phone has no such command; `word` names it."""

    def __init__(self, word: str, hint: str = "") -> None:
        super().__init__(f"the phone has no command {word!r}", hint)
        self.word = word


class CommandFailed(PhoneError):
    """A command on the phone ended with a code other than 0."""

    def __init__(self, command: str, code: int, stdout: str = "", stderr: str = "", hint: str = "") -> None:
        said = stderr.strip() or stdout.strip()
        tail = "\n".join(said.splitlines()[-_TAIL_LINES:])
        super().__init__(f"on the phone, {command!r} ended with code {code}" + (f":\n{tail}" if tail else ""), hint)
        self.command = command
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class TransferDamaged(PhoneError):
    """Size or SHA-256 of a file differ between this computer and the phone after a push or pull."""


class PushFailed(PhoneError):
    """A file could not be pushed, for a reason that has no class of its own."""


class PullFailed(PhoneError):
    """A file could not be pulled, for a reason that has no class of its own."""


class PhoneBusy(PhoneError):
    """Another session uses the phone."""


class TooHot(PhoneError):
    """The phone did not cool down in time."""


class BatteryLow(PhoneError):
    """The battery's level is below the limit: phones slow down to save what is left."""


class FakedReadings(PhoneError):
    """A test override is on: what the phone says of its heat or battery is not what its sensors say."""


class BadCores(PhoneError):
    """Such cores cannot be chosen on this phone, or it does not let us run on them."""


class BadFile(PhoneError):
    """A file to be measured or pushed is missing, or is not what was announced."""


class SessionGone(PhoneError):
    """Our folder on the phone is gone: its watchdog had not heard of us for too long, or someone removed it."""


class RunnerFailed(PhoneError):
    """The measuring program failed on the phone."""

    def __init__(self, message: str, code: int, stderr: str = "", hint: str = "") -> None:
        tail = "\n".join(stderr.strip().splitlines()[-_TAIL_LINES:])
        super().__init__(message + (f":\n{tail}" if tail else ""), hint)
        self.code = code
        self.stderr_tail = tail


class Rebooted(PhoneError):
    """The phone restarted in mid-session (its boot id changed)."""


class BadOutput(PhoneError):
    """A runner's output cannot be read: not in the published format, truncated, or garbled."""
