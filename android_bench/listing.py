"""The text of `adb devices -l`: serials, states, and what to do about each state.

Format and states: AOSP packages/modules/adb/transport.cpp (append_transport, to_string(ConnectionState)).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from android_bench.errors import BadSerial, NoPermissions, Offline, PhoneError, Unauthorized, WrongState

_REVOKE = "Settings > Developer options > Revoke USB debugging authorisations"
# state: (what it is, what to do, the error of it)
_STATES: Mapping[str, tuple[str, str, type[PhoneError]]] = {
    "offline": (
        "is connected and does not answer adb",
        "unlock it, then unplug and plug it in again (over Wi-Fi: adb disconnect and connect it)",
        Offline,
    ),
    "unauthorized": (
        "has not said yes to this computer's key",
        f'unlock it and tap "Allow" in its dialog; no dialog: {_REVOKE}, then plug it in again',
        Unauthorized,
    ),
    "authorizing": (
        "is checking this computer's key",
        'wait a moment; if it asks, unlock it and tap "Allow" in its dialog',
        Unauthorized,
    ),
    "connecting": ("is being connected", "wait a moment and ask again", Offline),
    "detached": (
        "was given up by the adb server, for another program to use",
        "end the program that took it, or: adb -s SERIAL attach",
        Offline,
    ),
    "recovery": ("runs its recovery, not Android", 'choose "Reboot system now" on it, or: adb reboot', WrongState),
    "rescue": ("is in rescue mode, not in Android", 'choose "Reboot system now" on it, or: adb reboot', WrongState),
    "sideload": ("waits for an update (sideload), not in Android", "finish or cancel the update on it", WrongState),
    "bootloader": ("is in its bootloader, not in Android", "start it (its power key, or: fastboot reboot)", WrongState),
    "host": ("is a computer that speaks adb, not a phone", "name a phone's serial", WrongState),
    "no permissions": (
        "may not be opened by this user",
        "Linux: install your distribution's Android udev rules (package android-sdk-platform-tools-common), join the "
        "group plugdev, log in again, plug it in again",
        NoPermissions,
    ),
    "unknown": ("is in a state that adb cannot name", "unplug and plug it in again, or restart it", WrongState),
}
# A serial of a phone found by mDNS can hold a space ("adb-123-abc (2)._adb-tls-connect._tcp"), so the state is what
# bounds it: the first known state with blanks before it.
_LINE = re.compile(
    r"(?P<serial>\S.*?)[ \t]+(?P<state>device|no permissions|" + "|".join(_STATES) + r")(?P<rest>(?:[ \t;(].*)?)"
)
_NO_PERMISSIONS = re.compile(r"[ ]?(?P<why>\([^)]*\))?(?:; see \[(?P<see>[^\]]*)\])?(?P<rest>.*)")
_ABOUT = re.compile(r"(?:^|[ \t])(usb|product|model|device|features|transport_id|connection_type):(\S*)")


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `adb devices -l`. about: usb, product, model, device, transport_id, as far as adb said them;
    `why` of "no permissions"."""

    serial: str
    state: str
    about: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def problem(self) -> str:
        """ "" for a phone that can be used, else one sentence."""
        if self.state == "device":
            return "" if is_serial(self.serial) else f"the name {self.serial!r} cannot be given to adb"
        what = _STATES[self.state][0] if self.state in _STATES else f"is in a state unknown to us, {self.state!r}"
        why = self.about.get("why", "")
        return f"{self.serial} {what}" + (f" {why}" if why else "")

    @property
    def fix(self) -> str:
        """What to do about the problem, or ""."""
        if self.state == "device":
            return "" if is_serial(self.serial) else "connect it by its address: adb connect HOST:PORT"
        fix = _STATES[self.state][1] if self.state in _STATES else "unplug and plug it in again; is adb up to date?"
        if self.serial.startswith("emulator-") and self.state == "offline":
            return "wait until the emulator has started; if it has, restart it"
        return fix

    def error(self) -> PhoneError | None:
        """The error of this state, or None for a phone that can be used."""
        if not self.problem:
            return None
        kind = BadSerial if self.state == "device" else _STATES[self.state][2] if self.state in _STATES else WrongState
        return kind(self.problem, self.fix)


def parse_devices(text: str) -> tuple[Listed, ...]:
    """Every device of the list; lines that are none (of the daemon, logs, the title) are passed over."""
    found: list[Listed] = []
    lines = iter(text.splitlines())
    for line in lines:  # what comes before the title is the client's talk about its server
        if line.startswith("List of devices attached"):
            break
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            found.append(_listed(match))
        elif len(words := line.split()) >= 2 and words[0] != "*":
            found.append(Listed(words[0], words[1], _about(" ".join(words[2:]))))
    return tuple(found)


def is_serial(text: str) -> bool:
    """Whether adb can be asked for this name and takes it for nothing else."""
    return bool(text) and not text.startswith(("-", "(")) and text.isprintable() and not re.search(r"\s", text)


def is_address(serial: str) -> bool:
    """Whether a serial is a phone's HOST:PORT on the network."""
    host, colon, port = serial.rpartition(":")
    return bool(host and colon and port.isascii() and port.isdecimal()) and is_serial(serial)


def check_serial(text: str) -> str:
    """The text. Raises BadSerial when it is empty, an option, or holds spaces, control or unprintable characters."""
    if not is_serial(text):
        raise BadSerial(
            f"{text!r} is no serial of a phone",
            "`adb devices` lists them; a serial holds no spaces and does not start with a dash",
        )
    return text


def _listed(match: re.Match[str]) -> Listed:
    serial, state, rest = match["serial"], match["state"], match["rest"]
    about: dict[str, str] = {}
    if state == "no permissions" and (details := _NO_PERMISSIONS.fullmatch(rest)) is not None:
        if details["why"]:
            about["why"] = details["why"]
        rest = details["rest"]
    return Listed(serial, state, MappingProxyType({**about, **_about(rest)}))


def _about(rest: str) -> dict[str, str]:
    return dict(_ABOUT.findall(rest))
