"""One command line for a phone's shell, and the proof in its output that it ended.

When the link drops, adb 29 and 34 return code 0 and whatever output had come (measured; see the docs' fault matrix).
So each command is followed by a random mark with its exit code on stdout, and a mark on stderr. The command runs in a
shell of its own: whatever it is (`exit 3`, a syntax error, `exec`), the marks still come, and `$$` is that shell.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

# adbd takes no more in one piece from a client of before 2016's protocol; longer scripts are to be pushed as files.
MAX_LINE_BYTES = 32 * 1024
_TAIL_BYTES = 4096


def as_line(command: str | Sequence[str]) -> str:
    """A shell line: a string as it stands, a sequence quoted word by word. Raises ValueError on a NUL or length."""
    line = command if isinstance(command, str) else " ".join(shlex.quote(word) for word in command)
    if "\0" in line:
        raise ValueError("a command for the phone's shell cannot hold a NUL character")
    size_bytes = len(line.encode("utf-8", "surrogateescape"))
    if size_bytes > MAX_LINE_BYTES:
        raise ValueError(f"a command of {size_bytes} bytes (at most {MAX_LINE_BYTES}): push it as a script")
    return line


@dataclass(frozen=True, slots=True)
class Marked:
    """A command line wrapped so that its end can be seen."""

    line: str
    mark: str

    def ended(self, stdout: bytes | bytearray, stderr: bytes | bytearray) -> bool:
        """Whether both marks have come, so that nothing of the command's own is still to come."""
        tail = bytes(stdout[-_TAIL_BYTES:])
        if self._end().search(tail) is None:
            return False
        mark = b"%s:stderr" % self.mark.encode()
        return mark in stderr[-_TAIL_BYTES:] or mark in tail

    def read(self, stdout: bytes, stderr: bytes) -> tuple[int, str, str] | None:
        """Exit code, stdout and stderr of the command alone, or None when its end did not come.

        A phone that has no shell protocol (before Android 7) sends both as one through a terminal, which turns each
        newline into CR LF: stderr is then in stdout, and the newlines are put back.
        """
        ends = list(self._end().finditer(stdout))
        if not ends:
            return None
        found = ends[-1]
        out, err = stdout[: found.start()], stderr
        mark = re.compile(rb"%s:stderr\r?\n" % self.mark.encode())
        if (last := mark.search(out, max(0, len(out) - len(self.mark) - 9))) is not None:
            out = out[: last.start()]
        elif (last := mark.search(err)) is not None:
            err = err[: last.start()] + err[last.end() :]
        if found.group().endswith(b"\r\n"):
            out = out.replace(b"\r\n", b"\n")
        return int(found[1]), out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def _end(self) -> re.Pattern[bytes]:
        return re.compile(rb"%s:(\d{1,3})\r?\n" % self.mark.encode())


def marked(line: str) -> Marked:
    """Wrap a line; the mark is random, so that no output holds it by chance or on purpose."""
    mark = f"pf-end-{secrets.token_hex(8)}"
    # The code is kept first: the echo to stderr has one of its own.
    return Marked(f"sh -c {shlex.quote(line)}; c=$?; echo {mark}:stderr >&2; echo {mark}:$c", mark)
