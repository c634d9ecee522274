"""The adb program, its server, and the phones that it lists."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence

from android_bench.client import Finished, run_client
from android_bench.errors import (
    AdbMissing,
    ConnectFailed,
    NoPhone,
    PhoneTimeout,
    ServerLost,
    SeveralPhones,
    Unauthorized,
    UnknownSerial,
)
from android_bench.judge import Output, last_line
from android_bench.link import Link
from android_bench.listing import Listed, check_serial, is_address, parse_devices
from android_bench.server import Address, address, check

__all__ = ["Adb", "Link", "Listed", "Output"]

# `adb connect` itself waits 10 s for a host that does not answer.
CONNECT_TIMEOUT_S = 30.0
_LIST_TIMEOUT_S = 20.0
_START_TIMEOUT_S = 30.0
_VERSION = re.compile(r"^Android Debug Bridge version (\S+)$(?:\s^(?:Version|Revision) (\S+)$)?", re.M)
_GET_ADB = "install it (Debian, Ubuntu: apt install adb; else Google's platform-tools), or set POCKETFORGE_ADB to it"


class Adb:
    """The adb of this computer. May be used from several threads; the environment is read once, when it is made."""

    def __init__(self, program: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
        """program: else POCKETFORGE_ADB, PATH, then ANDROID_HOME's and ANDROID_SDK_ROOT's platform-tools.

        Raises AdbMissing, and ServerLost when the environment names a server that cannot be asked.
        """
        env = dict(os.environ if environ is None else environ)
        self._serial = env.pop("ANDROID_SERIAL", "")  # every call names its phone
        env.pop("ADB_TRACE", None)  # it fills stderr, which is read here
        self._environ = env
        self.program = _find(program, env)
        self.version = self._ask_version()
        self.server: Address = address(env)
        self._starting = threading.Lock()

    def devices(self) -> tuple[Listed, ...]:
        """All that adb knows of, in any state. Raises ServerMismatch, ServerLost and PhoneTimeout."""
        done = self.call(["devices", "-l"], _LIST_TIMEOUT_S)
        text = done.stdout.decode("utf-8", "replace")
        if done.code != 0 or "List of devices attached" not in text:
            said = last_line(done.stderr.decode("utf-8", "replace") + text)
            raise ServerLost(
                f"the adb server at {self.server.spec} gave no list of devices: {said}", "see: adb devices"
            )
        return parse_devices(text)

    def phone(self, serial: str = "") -> Link:
        """The named phone; else ANDROID_SERIAL's; else the only one.

        Raises BadSerial, UnknownSerial, NoPhone, SeveralPhones, and the error of the phone's state.
        """
        source = "" if serial or not self._serial else " (ANDROID_SERIAL)"
        name = serial or self._serial
        if name:
            check_serial(name)
        found = self.devices()
        listed = ", ".join(f"{phone.serial} ({phone.state})" for phone in found)
        if name:
            chosen = [phone for phone in found if phone.serial == name]
            if not chosen:
                raise UnknownSerial(
                    f"adb knows no phone {name}{source}; it knows: {listed or 'none'}",
                    f"adb connect {name}" if is_address(name) else "is it plugged in, and USB debugging on?",
                )
        elif not found:
            raise NoPhone(
                "adb knows no phone",
                "plug one in with USB debugging on (Settings > Developer options), or: adb connect HOST:PORT",
            )
        else:
            chosen = list(found)
            if len(chosen) > 1:
                raise SeveralPhones(f"adb knows several phones: {listed}", "name one, or set ANDROID_SERIAL")
        error = chosen[0].error()
        if error is not None:
            raise error
        return Link(self, chosen[0].serial)

    def connect(self, address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
        """Connect a phone over the network; its serial. `adb connect` returns 0 whatever happened: its text is judged.

        Raises BadSerial, ConnectFailed and Unauthorized.
        """
        check_serial(address)
        try:
            done = self.call(["connect", address], timeout_s)
        except PhoneTimeout:
            raise ConnectFailed(f"{address} did not answer within {timeout_s:g} s", _CONNECT_HINT) from None
        text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
        if (there := re.search(r"^(?:already )?connected to (\S+)$", text, re.M)) is not None:
            return there[1]
        if "failed to authenticate" in text:
            raise Unauthorized(
                f"{address} has not said yes to this computer's key", 'unlock it and tap "Allow" in its dialog'
            )
        raise ConnectFailed(f"{address} could not be connected: {last_line(text) or 'adb said nothing'}", _CONNECT_HINT)

    def disconnect(self, serial: str) -> None:
        """Let go of a phone connected over the network; nothing happens when it is not."""
        self.call(["disconnect", check_serial(serial)], _LIST_TIMEOUT_S)

    def call(
        self,
        arguments: Sequence[str],
        timeout_s: float,
        enough: Callable[[bytearray, bytearray], bool] | None = None,
        *,
        may_be_late: bool = False,
    ) -> Finished:
        """Run the client once its server is known to be ours to ask. For this package's own use.

        Raises ServerMismatch, ServerLost, AdbMissing; PhoneTimeout unless `may_be_late`.
        """
        self.ready()
        done = run_client([self.program, *arguments], self._environ, timeout_s, enough)
        if done.late and not may_be_late:
            raise PhoneTimeout(
                f"adb {arguments[0]} did not end within {timeout_s:g} s", "is the adb server well? See: adb devices"
            )
        return done

    def ready(self) -> None:
        """Make sure that a server of our version runs; where none does, our client starts one (on this computer only).

        Raises ServerMismatch and ServerLost.
        """
        if check(self.server, self.version, self.program):
            return
        with self._starting:
            if check(self.server, self.version, self.program):
                return
            # Any command starts it. This one disturbs nobody, and no other then talks of a daemon in its output.
            done = run_client([self.program, "devices"], self._environ, _START_TIMEOUT_S)
            if not check(self.server, self.version, self.program):
                said = last_line((done.stdout + done.stderr).decode("utf-8", "replace"))
                raise ServerLost(
                    f"no adb server could be started at {self.server.spec}: {said or 'adb said nothing'}",
                    "see: adb devices",
                )

    def _ask_version(self) -> str:
        done = run_client([self.program, "version"], self._environ, _LIST_TIMEOUT_S)  # asks no server
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        found = _VERSION.search(text)
        if found is None:
            raise AdbMissing(
                f"{self.program} is not adb: asked for its version it said {text.strip()[:200]!r}", _GET_ADB
            )
        return f"{found[1]} ({found[2]})" if found[2] else found[1]


_CONNECT_HINT = (
    "is it on the same network, with wireless debugging on? Android 11 and later: adb pair HOST:PORT comes first, "
    "and both ports are on the phone's screen"
)


def _find(program: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str:
    named = os.fspath(program) if program is not None else environ.get("POCKETFORGE_ADB", "")
    if named:
        found = shutil.which(named, path=environ.get("PATH"))
        if found is None:
            source = "" if program is not None else " (POCKETFORGE_ADB)"
            raise AdbMissing(f"{named}{source} is not a program that can be started", _GET_ADB)
        return found
    places = [environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if environ.get(name)]
    paths = ["adb", *(os.path.join(place, "platform-tools", "adb") for place in places)]
    for path in paths:
        if (found := shutil.which(path, path=environ.get("PATH"))) is not None:
            return found
    raise AdbMissing(f"there is no adb on this computer (looked for: {', '.join(paths)})", _GET_ADB)
