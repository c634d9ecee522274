"""Every error a user can meet, and the exit code of each kind.

PocketforgeError                 exit 3   base; never raised itself
├── RecipeError                  exit 2   the recipe (or another file the user wrote) is wrong
├── ModelError                   exit 2   the model's code, weights or data do not fit together
│   └── ChangedInput             exit 2   a file changed while the build read it (nothing of it is stored)
├── ReleaseError                 exit 2   a release, a key or a patch that a command was given cannot be used
├── StoreError                   exit 3   the cache or output folder cannot be read or written
│   ├── DamagedEntry             exit 3   a stored file is not what was stored (builds make it again)
│   ├── RefusedEntry             exit 3   a remote store's result is not what it says, or not signed (never used)
│   └── RemoteStoreError         exit 3   a remote store cannot be reached, read or written (builds go on without)
├── PluginFailed                 exit 3   an installed plug-in cannot be used (which package's)
├── StageFailed                  exit 3   a stage ended badly (stage, lane, log path)
│   ├── ToolFailed               exit 3   a program we ran failed (argv, exit code, stderr tail)
│   └── ToolMissing              exit 3   a package or program is not installed (how to get it)
└── DeviceError                  exit 4   a device could not do the work
    ├── DeviceUnavailable        exit 4
    └── DeviceTimeout            exit 4

A failed gate, or another verdict that is no (`why`, a comparison), is a result, not an exception: exit 1, and nothing
else exits 1. Success 0, wrong usage 2, interrupt 130. What nothing here explains is our own fault: 70 (crash.py).
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_STAGE = 3
EXIT_DEVICE = 4
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class PocketforgeError(Exception):
    """What was wanted and what was found (`message`), and what to try (`hint`)."""

    exit_code = EXIT_STAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Stages run in processes of their own and their errors cross a pipe: constructors differ, attributes do not.
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[PocketforgeError], attributes: dict[str, object]) -> PocketforgeError:
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    error.args = (error.message,)
    return error


class RecipeError(PocketforgeError):
    """A file the user wrote is wrong. `faults` holds every fault found, each with its path."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str = "", faults: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        # A line each: a key of the file may have a newline in it, and what follows would pass for a line of ours.
        self.faults = tuple(fault.replace("\n", "\\n") for fault in faults)

    def __str__(self) -> str:
        lines = [self.message, *(f"  {fault}" for fault in self.faults)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ModelError(PocketforgeError):
    """The model's code, its weights, its data or its labels do not fit together."""

    exit_code = EXIT_USAGE


class ChangedInput(ModelError):
    """A file is not, or may not have been all the time, what the build's keys say that it is."""

    def __init__(self, path: object, what: str, hint: str = "") -> None:
        super().__init__(f"{path} {what}", hint or "nothing that was made of it is stored; run again")
        self.path = str(path)


class ReleaseError(PocketforgeError):
    """A release, a key or a patch is not what a command needs. `verify-release` finds faults; what builds on a release
    refuses one that has any."""

    exit_code = EXIT_USAGE


class StoreError(PocketforgeError):
    """The store or the output folder cannot be read or written (full, read-only, damaged)."""


class DamagedEntry(StoreError):
    """A stored result's file is missing or does not match its recorded hash. A build makes it again."""

    def __init__(self, key: str, name: str) -> None:
        super().__init__(f"stored result {key[:12]} is damaged ({name} does not match its hash)")
        self.key = key
        self.name = name


class RefusedEntry(StoreError):
    """A remote store's result is not what it says, or no key that is trusted has signed it. It is not used."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"remote result {key[:12]} is refused: {why}")
        self.key = key
        self.why = why


class RemoteStoreError(StoreError):
    """A remote store cannot be reached, read or written. A build goes on without it."""


class PluginFailed(PocketforgeError):
    """What an installed package adds to Pocketforge cannot be used; `message` names the package."""


class Interrupted(KeyboardInterrupt):
    """A ^C, or a CI that cancels a job: what the command line makes of such a signal. A package's code may raise
    KeyboardInterrupt by itself, and that is no word of the user's."""


class StageFailed(PocketforgeError):
    """A stage did not finish; its whole output is in `log`."""

    def __init__(self, message: str, hint: str = "", *, stage: str = "", lane: str = "", log: str = "") -> None:
        super().__init__(message, hint)
        self.stage = stage
        self.lane = lane
        self.log = log

    def __str__(self) -> str:
        where = f"{self.stage} {self.lane}: " if self.stage else ""
        return where + super().__str__() + (f"\n  log: {self.log}" if self.log else "")


class ToolFailed(StageFailed):
    """A program that a stage ran ended with an error."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str, *, hint: str = "") -> None:
        tail = "\n".join(stderr.strip().splitlines()[-12:])
        super().__init__(f"{argv[0]} ended with {describe_exit(returncode)}:\n{tail}", hint)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr_tail = tail

    @property
    def signal(self) -> str:
        """The signal that ended the program, in words; empty where it ended by itself. What it had said before is at
        most what it was doing."""
        return describe_exit(self.returncode) if self.returncode < 0 else ""


class ToolMissing(StageFailed):
    """A package or a program that a stage needs is not installed; `hint` says how to get it."""


class DeviceError(PocketforgeError):
    """A device could not do the work asked of it."""

    exit_code = EXIT_DEVICE


class DeviceUnavailable(DeviceError):
    """The device is not there, or not in a state to be used."""


class DeviceTimeout(DeviceError):
    """The device did not answer in time."""


def chain_of(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, the innermost last. What was only handled meanwhile is not of it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain


def first_line(error: BaseException) -> str:
    """What went wrong: kind and first line of the innermost error, as libraries wrap theirs in pages of advice."""
    innermost = chain_of(error)[-1]
    lines = [line.strip() for line in str(innermost).splitlines() if line.strip()]
    return f"{type(innermost).__name__}: {lines[0] if lines else 'no message'}"


# What each signal mostly means for a program that runs models.
_SIGNALS = {
    # The kernel's out-of-memory killer sends it, and leaves no other trace in the process.
    "SIGKILL": "killed; often out of memory",
    "SIGILL": "illegal instruction; is it made for a processor that has more than this one?",
    "SIGSEGV": "crashed: it read or wrote outside its memory",
    "SIGBUS": "crashed: a file that it had mapped was cut, or the disk or shared memory is full",
    "SIGABRT": "it gave up by itself",
    "SIGFPE": "crashed: an integer was divided by zero",
    "SIGSYS": "a system call is forbidden here",
    "SIGXCPU": "its limit on processor time was reached",
    "SIGXFSZ": "its limit on the size of files was reached",
}


def last_words(text: str) -> str:
    """The line that says what went wrong in what a program printed; empty where it printed nothing."""
    lines = [line for line in text.splitlines() if line.strip()]
    # Some errors end in a line that says nothing ("Registration failed.").
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else "")


def describe_exit(returncode: int) -> str:
    """Say in words how a process ended; negative codes are signals, as in `subprocess`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    import signal

    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"{name} ({_SIGNALS[name]})" if name in _SIGNALS else name
