"""Does this qemu load plugins, and which of ours? Counting by plugin is some ten times faster than by log."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from pocketforge.devices.emulator.reader import PLUGIN_VERSIONS, plugin_name

_NOTHING = "/nonexistent"  # plugins are loaded before the program, which therefore need not exist
_WAIT_S = 30


def find(qemu: Path, folder: Path) -> Path | None:
    """The plugin of `folder` (where reader.build put them) that `qemu` loads; None when it was built without plugins,
    as Debian's are, or speaks a version that we do not.
    """
    try:
        stamp = qemu.stat().st_mtime_ns
    except OSError:
        return None
    return _find(qemu, stamp, folder)


@functools.cache
def _find(qemu: Path, _stamp: int, folder: Path) -> Path | None:
    if "QEMU_PLUGIN" not in _said(qemu, "-h"):
        return None
    for version in PLUGIN_VERSIONS:
        path = folder / plugin_name(version)
        if path.is_file() and f"plugin API {version}\n" in _said(qemu, "-plugin", escaped(path), _NOTHING):
            return path
    return None


def escaped(path: Path) -> str:
    """A path inside qemu's comma-separated options."""
    return os.fspath(path).replace(",", ",,")


def _said(qemu: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [os.fspath(qemu), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
