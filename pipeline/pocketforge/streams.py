"""The terminal: what comes from files is made visible before it gets there, and a reader that left changes nothing.

`guarded()` puts a stream of ours in the place of stdout and of stderr, so that no writer has to think of either:
click, `print` and libraries write through it too. Only what draws by control characters on purpose, colours and bars
(report/tables.py), writes to `as_is`, and makes foreign text visible itself.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import IO, Any

# What a terminal obeys or does not show: C0 and C1 but tab and newline, marks of writing direction, line separators,
# zero-width and invisible characters (joiners are letters' own), and bytes of names that are no text.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAKS = str.maketrans({"\n": "\\n", "\t": "\\t"})
_NAMED = {"\r": "\\r"}
# Nobody reads any more: the pipe's other end is closed, the descriptor was closed or never open, the terminal hung up.
_GONE = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ECONNRESET)


def printable(text: str, *, lines: bool = False) -> str:
    """Text of unknown origin as a terminal may have it: control characters as \\x1b or \\u202e, and not obeyed.

    lines: newlines and tabs stay. Else it is one line, as a name must be.
    """
    shown = _UNSEEN.sub(_escaped, text)
    return shown if lines else shown.translate(_BREAKS)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    if match[0] in _NAMED:
        return _NAMED[match[0]]
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file's name that is not UTF-8, as Python carries it
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def told(text: str, kind: str) -> list[str]:
    """A message as lines. Those after its first are indented: none in a foreign name passes for a line of ours."""
    first, *rest = text.split("\n")
    return [f"{kind}: {first}", *(line if line.startswith("  ") else f"  {line}" for line in rest)]


def json_text(data: object, indent: int | None = None) -> str:
    """JSON that goes through a terminal as it is: of all control characters JSON lets DEL alone stand for itself."""
    import json

    # NaN and Infinity are not JSON: a result that may hold them says null instead.
    return json.dumps(data, indent=indent, sort_keys=True, allow_nan=False).replace("\x7f", "\\u007f")


class OutputLostError(Exception):
    """What was asked for could not be written to stdout: its disk is full."""


class GuardedStream(io.TextIOBase):
    """A text stream over another.

    needed: a write that fails while somebody reads raises OutputLostError; else what cannot be written is lost.
    as_is: writes to the same place without looking at the text.
    """

    def __init__(self, under: Any, *, needed: bool) -> None:
        self.under = under
        self.reader_gone = under is None
        self.as_is = _AsIs(self)
        self.buffer = _Bytes(self)
        self._needed = needed

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Any text can be written: what the stream below cannot take is escaped."""
        return "utf-8"

    def write(self, text: str) -> int:
        self.put(printable(text, lines=True))
        return len(text)

    def put(self, text: str) -> None:
        """Write, whatever it is."""
        if not self.reader_gone:
            encoding = getattr(self.under, "encoding", None) or "utf-8"
            with self._failures():
                self.under.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        if not self.reader_gone:
            with self._failures():
                self.under.flush()

    def isatty(self) -> bool:
        return not self.reader_gone and bool(self.under.isatty())

    def fileno(self) -> int:
        if self.under is None:
            raise io.UnsupportedOperation("fileno")
        return int(self.under.fileno())

    def writable(self) -> bool:
        return True

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self.reader_gone = True
            self._turn_away()
            if self._needed and isinstance(error, OSError) and error.errno not in _GONE:
                raise OutputLostError(error.strerror or str(error)) from error

    def _turn_away(self) -> None:
        """Python flushes what is left at exit, and would end with 120 if that failed: let it go nowhere."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.under.fileno())
            os.close(nowhere)


class _Bytes(io.RawIOBase):
    """For writers of bytes: they are text all the same."""

    def __init__(self, stream: GuardedStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "surrogateescape"))
        return len(data)

    def flush(self) -> None:
        if not self.closed:
            self._stream.flush()


class _AsIs(io.TextIOBase):
    def __init__(self, stream: GuardedStream) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream.under, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._stream.put(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True


def as_is(stream: IO[str]) -> IO[str]:
    """Where to write what is made of control characters on purpose."""
    plain: IO[str] = getattr(stream, "as_is", stream)
    return plain


def reader_gone(stream: IO[str] | None) -> bool:
    """Whether nobody reads it any more: what would write for ever can end."""
    return bool(getattr(stream, "reader_gone", stream is None))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """stdout and stderr are guarded within, and flushed at the end. Raises OutputLostError then, as a write does."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = GuardedStream(before[0], needed=True), GuardedStream(before[1], needed=False)
    guards = sys.stdout, sys.stderr
    try:
        yield
        for stream in guards:
            stream.flush()
    finally:
        sys.stdout, sys.stderr = before


def open_standard() -> None:
    """Open what of stdin, stdout and stderr was closed when we started.

    The first files that we open would get their numbers, and whatever a library then prints would go into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as we run
