"""Texts that a phone's shell prints, taken apart: marked sections, properties, sysfs files, lists of CPUs.

Nothing here raises on any text, and nothing gives a value that is not in it: what cannot be read is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

# Linux allows more; a longer list is damaged text.
_MOST_CPUS = 1024
_PROPERTY = re.compile(r"\[([^\[\]]+)\]: \[(.*)\]")
_FACT = re.compile(r"([^:]+):(.*)")


def lines(text: str) -> list[str]:
    """Lines without their ends, also where adb made CR LF of them (phones without shell protocol 2)."""
    return [line.rstrip("\r") for line in text.split("\n")]


def cleaned(text: str) -> str:
    """Without what a terminal would obey: a property may hold anything, and it is printed."""
    return "".join(c for c in text if c.isprintable()).strip()


def whole(text: str | None) -> int | None:
    """A decimal number of up to 18 digits, and nothing else."""
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def marked(token: str, commands: Mapping[str, str]) -> str:
    """One shell line that runs all the commands and marks where the output of each begins.

    token: letters and digits that no output has by chance. The commands are shell text as it stands.
    """
    parts = [f"echo '@{token} {name}'; {command}" for name, command in commands.items()]
    return "{ " + "; ".join([*parts, "true"]) + "; } 2>/dev/null"


def sections(text: str, token: str) -> dict[str, str]:
    """What each command of `marked` printed, by its name. A command whose mark is not there is left out."""
    found: dict[str, list[str]] = {}
    mark = f"@{token} "
    current: list[str] | None = None
    for line in lines(text):
        if line.startswith(mark):
            current = found.setdefault(line.removeprefix(mark), [])
        elif current is not None:
            current.append(line)
    return {name: "\n".join(content) for name, content in found.items()}


def properties(text: str) -> dict[str, str]:
    """`getprop`'s `[name]: [value]` lines. "unknown", Android's own word for a value it lacks, is none.

    Source: AOSP, system/core/toolbox/getprop.cpp; Build.UNKNOWN. A value of several lines is left out.
    """
    found: dict[str, str] = {}
    for line in lines(text):
        match = _PROPERTY.fullmatch(line.strip())
        value = cleaned(match[2]) if match else ""
        if match and value and value != "unknown":
            found.setdefault(match[1], value)
    return found


def named_lines(text: str) -> dict[str, list[str]]:
    """`grep -H '' FILE…`: the lines of each file by its path. Paths with a colon cannot be told from their text."""
    found: dict[str, list[str]] = {}
    for line in lines(text):
        path, colon, content = line.partition(":")
        if colon and path:
            found.setdefault(path, []).append(content)
    return found


def facts(text: str) -> dict[str, str]:
    """Lines `name: value` of a service's dump or of /proc; the first of a name counts."""
    found: dict[str, str] = {}
    for line in lines(text):
        match = _FACT.fullmatch(line)
        if match:
            found.setdefault(match[1].strip(), match[2].strip())
    return found


def cpu_list(text: str | None) -> tuple[int, ...]:
    """CPU numbers of the kernel's `0-3,7`, or of cpufreq's `0 1 2 3`; empty where the text is neither."""
    found: set[int] = set()
    words = re.split(r"[,\s]+", (text or "").strip())
    for word in words:
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", word)
        if not match:
            return ()
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < _MOST_CPUS:
            return ()
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def clock_ghz(text: str | None) -> float | None:
    """cpufreq's kHz; none where they are no clock that a core could have."""
    khz = whole(text)
    return khz / 1e6 if khz is not None and 10_000 <= khz <= 20_000_000 else None


def plain(value: Any) -> Any:
    """A dataclass as what JSON has: dicts with names of text, lists, numbers, text, true, false and null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
