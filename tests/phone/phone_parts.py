"""What test phones are made of: the folder that tests/tools/fetch_phone.py made, and the set-up emulator's qemu."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python tests/tools/fetch_phone.py"
# Commands that Android gives by other means than toybox, or not at all.
_NOT_COMMANDS = ("sh", "toybox", "su", "login", "init")


@dataclass(frozen=True)
class PhoneParts:
    """adb: the client. adbd: folder with adbd and its libraries. userland: arm64 shell, toybox, libraries.

    native: the same programs for this machine. commands: what toybox gives, in both.
    """

    adb: Path
    adbd: Path
    userland: Path
    native: Path
    qemu: Path
    commands: tuple[str, ...]


def find_parts() -> PhoneParts:
    """Raises FileNotFoundError with the command to run; DeviceUnavailable when the emulator is not set up."""
    from pocketforge.devices.emulator import parts
    from pocketforge.folders import environments_dir

    folder = environments_dir() / "test-phone-1"
    native = folder / "userland-native"
    if not (folder / "stamp.json").is_file() or not native.is_dir():
        raise FileNotFoundError(f"{folder} has no test phone. Make it, once: {COMMAND}")
    loader = [native / "lib64" / "ld-linux-x86-64.so.2", "--library-path", native / "lib" / "x86_64-linux-gnu"]
    commands = toybox_commands([*map(str, loader), os.fspath(native / "bin" / "toybox")])
    qemu = parts.installed().qemu
    return PhoneParts(folder / "bin" / "adb", folder / "adbd", folder / "userland", native, qemu, commands)


def toybox_commands(start: Sequence[str]) -> tuple[str, ...]:
    """What a toybox gives that phones have too. start: how it is started here."""
    listed = subprocess.run(start, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    return tuple(name for name in listed if name not in _NOT_COMMANDS)
