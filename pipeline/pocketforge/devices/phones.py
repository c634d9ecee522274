"""Phones over adb for the rest of Pocketforge: which are there, what each is and shows, and their errors as ours.

With `devices/adb.py` the only way to `android_bench`: nothing outside this folder imports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench import errors
from android_bench.adb import Adb, Link, Listed
from android_bench.errors import PhoneError
from android_bench.listing import is_address
from android_bench.phone import PhoneFacts, read_facts
from android_bench.readiness import Check, check_adb, check_link
from android_bench.readings import THERMAL_STATUS, Clocks, Heat, read_clocks, read_heat
from pocketforge.devices.match import Match, match
from pocketforge.devices.profile_files import load_profile, shipped_profiles
from pocketforge.errors import DeviceError, DeviceTimeout, DeviceUnavailable, PocketforgeError

__all__ = ["THERMAL_STATUS", "Check", "Clocks", "Heat", "Link", "Listed", "PhoneFacts"]

_UNAVAILABLE = (
    errors.AdbMissing, errors.ServerMismatch, errors.ServerLost, errors.NoPhone, errors.SeveralPhones,
    errors.UnknownSerial, errors.BadSerial, errors.Unauthorized, errors.Offline, errors.NoPermissions,
    errors.WrongState, errors.ConnectFailed, errors.LinkLost, errors.PhoneBusy, errors.BatteryLow,
)  # fmt: skip
_TIMEOUT = (errors.PhoneTimeout, errors.TooHot)
# A reading takes tenths of a second; a link that says nothing for longer is as good as lost to who watches.
_READING_TIMEOUT_S = 10.0


@contextlib.contextmanager
def phone_errors() -> Iterator[None]:
    """PhoneError as DeviceUnavailable (not there, or not to be used now), DeviceTimeout or DeviceError."""
    try:
        yield
    except PhoneError as error:
        raise translated(error) from error


def translated(error: PhoneError) -> DeviceError:
    """The same message and hint, as an error of ours."""
    kind = DeviceError
    if isinstance(error, _UNAVAILABLE):
        kind = DeviceUnavailable
    elif isinstance(error, _TIMEOUT):
        kind = DeviceTimeout
    return kind(error.message, error.hint)


def adb_version() -> str:
    """adb's version and where it is, without asking or starting its server. Raises DeviceUnavailable."""
    with phone_errors():
        adb = Adb()
        return f"{adb.version}: {adb.program}"


def list_phones() -> tuple[Listed, ...]:
    """All that adb knows of, in any state; adb starts its server when none runs. Raises DeviceUnavailable."""
    with phone_errors():
        return Adb().devices()


def reach(serial: str) -> None:
    """Connect to a phone on the network, HOST:PORT, that adb does not list; nothing for any other serial.

    Raises DeviceUnavailable with adb's words.
    """
    with phone_errors():
        adb = Adb()
        if is_address(serial) and serial not in [listed.serial for listed in adb.devices()]:
            adb.connect(serial)


def open_phone(serial: str = "") -> Link:
    """The named phone, else ANDROID_SERIAL's, else the only one. Raises DeviceUnavailable."""
    with phone_errors():
        return Adb().phone(serial)


def phone_facts(link: Link) -> PhoneFacts:
    """What the phone is. Raises DeviceError."""
    with phone_errors():
        return read_facts(link)


def phone_heat(link: Link) -> Heat:
    """Its heat, battery and screen now. Raises DeviceError."""
    with phone_errors():
        return read_heat(link)


def matched(facts: PhoneFacts) -> Match:
    """The shipped profile that the phone is of, and what differs."""
    return match(facts, [load_profile(name) for name in shipped_profiles()])


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a phone.

    Attributes:
        clocks: None when they cannot be read now.
        heat: None likewise.
        lost: Why not.
    """

    clocks: Clocks | None = None
    heat: Heat | None = None
    lost: str = ""


def look(link: Link, cpus: Sequence[int]) -> Reading:
    """One look at a phone that is watched: a dropped link is a reading too, and is tried anew at the next look.

    Raises DeviceError for what waiting does not mend (a key refused, a phone in its bootloader).
    """
    try:
        clocks = read_clocks(link, cpus, repeat=False, timeout_s=_READING_TIMEOUT_S)
        return Reading(clocks, read_heat(link, repeat=False, timeout_s=_READING_TIMEOUT_S))
    except PhoneError as error:
        if not error.transient:
            raise translated(error) from error
        _reconnect(link)
        return Reading(lost=_short(error))


def _short(error: PhoneError) -> str:
    """In a few words: the messages tell of the command too, and here it is always the same one."""
    if isinstance(error, errors.LinkLost):
        return "the link dropped"
    if isinstance(error, errors.PhoneTimeout):
        return f"nothing was heard for {_READING_TIMEOUT_S:g} s"
    return error.message


def _reconnect(link: Link) -> None:
    """A phone on the network falls out of adb's list when its link drops: `wait` connects it again."""
    try:
        link.wait(0.5)
    except (errors.ConnectFailed, errors.Unauthorized):
        return  # the next look says it
    except PhoneError as error:
        if not error.transient:
            raise translated(error) from error


def checks(serial: str = "") -> Iterator[Check]:
    """Rows of `pocketforge device doctor`, each as soon as it is known."""
    try:
        adb = Adb()
    except PhoneError as error:
        yield Check("adb", "missing", error.message, error.hint)
        return
    for row in check_adb(adb):
        yield row
        if row.state == "missing":
            return
    try:
        link = adb.phone(serial)
    except PhoneError as error:
        yield Check("phone", "missing", error.message, error.hint)
        return
    yield Check("connection", "ok", f"{link.serial} answers adb")
    yield from check_link(link, arm64_program())


def arm64_program() -> Path | None:
    """A small arm64 program that ends with code 0 on --version: the loader that our runners start with.

    None where the emulator, whose part it is, is not set up.
    """
    from pocketforge.devices.emulator import parts

    try:
        found = parts.installed().sysroot / "lib" / "ld-linux-aarch64.so.1"
    except PocketforgeError:
        return None
    return found if found.is_file() else None
