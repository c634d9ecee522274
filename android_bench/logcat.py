"""`adb logcat -d`: the messages of one tag, by process, in its formats brief, tag, time, threadtime and raw.

Source of the formats: AOSP, system/logging/liblog/logprint.cpp (android_log_formatLogLine), with the modifiers year,
usec, zone, uid and color of Android 7 and later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_STAMP = r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d{3,9}(?: [+-]\d{4})?"
_FORMATS = (
    # threadtime: 07-14 13:14:52.097  2000 22838 22838 I ExecuTorch: message      (2000: the uid, a modifier)
    rf"{_STAMP}(?: +[\w.]+)?? +(?P<pid>\d+) +\d+ [VDIWEFS] TAG *: (?P<message>.*)",
    # time: 07-14 13:14:52.097 I/ExecuTorch(22838): message
    rf"{_STAMP} [VDIWEFS]/TAG *\( *(?:[\w.]+:)?(?P<pid>\d+)\): (?P<message>.*)",
    # brief: I/ExecuTorch(22838): message, and tag: I/ExecuTorch: message
    r"[VDIWEFS]/TAG *\( *(?:[\w.]+:)?(?P<pid>\d+)\): (?P<message>.*)",
    r"[VDIWEFS]/TAG *: (?P<message>.*)",
)
_OTHERS = re.compile(
    rf"(?:--------- .*|{_STAMP}.*|[VDIWEFS]/.{{0,200}}?: .*)", re.DOTALL
)  # lines of logcat that are not of the tag
_COLOR = re.compile(r"\x1b\[[\d;]*m")


def messages(lines: list[str], tag: str) -> Iterator[tuple[int | None, str]]:
    """(process id, or None where the format has none; message) of each line of `tag`; bare lines are format raw."""
    formats = [re.compile(shape.replace("TAG", re.escape(tag)), re.DOTALL) for shape in _FORMATS]
    for line in lines:
        line = _COLOR.sub("", line)
        for shape in formats:
            if found := shape.fullmatch(line):
                pid = found.groupdict().get("pid")
                yield (int(pid) if pid and len(pid) < 10 else None), found["message"]
                break
        else:
            if not _OTHERS.fullmatch(line):
                yield None, line
