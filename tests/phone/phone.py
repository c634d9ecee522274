"""A test phone: a real adbd with a userland of its own in namespaces of its own, on a cable that can be broken.

    with Phone(parts, server, KINDS["pixel8"]) as phone:
        phone.connect()

Nothing of it is left after `close`, or when the tests are killed: PID 1 ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from adb_for_tests import AdbServer
from android_commands import CALLS, FIXED_PERFORMANCE, NO_POWER_HAL, STATE, scripts, state_files
from phone_hardware import cpu_files, cpuinfo_text
from phone_kinds import PhoneKind
from phone_parts import PhoneParts

_INIT = Path(__file__).with_name("phone_init.py")
_LIMIT_S = 30


class Phone:
    """One test phone. serial: what adb calls it once connected.

    cpus: how many cores it has (two: cpu0 little, cpu1 big, which is what runs can be pinned to here); None: all of
    the kind. data_size: of /data, as tmpfs has it. missing: commands that it lacks. state: its mode, "device",
    "recovery", "sideload" or "bootloader". body: first values of phone_body.Body. files: path on the phone → text.
    qemu_cpu: the processor that arm64 programs see in their auxiliary vector. uptime_s: how long ago it was booted.

    userland: what its shell and toybox are built for. "arm64": each of their processes runs under qemu, as what is
    pushed does. "native": for this machine, in a twentieth of the time; only what is pushed runs under qemu. It looks
    the same, but for: no arm64 loader in /lib (no Android has one), so that a pushed program that names it does not
    start; `toybox uname` and programs that ask the kernel, unlike `uname`, hear of this machine; and QEMU_CPU does not
    change what its own programs see.
    """

    def __init__(
        self,
        parts: PhoneParts,
        server: AdbServer,
        kind: PhoneKind,
        *,
        cpus: int | None = 2,
        data_size: str = "256m",
        noexec: bool = False,
        readonly: bool = False,
        missing: Sequence[str] = (),
        state: str = "device",
        body: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        features: Sequence[str] | None = None,
        serial_number: str = "39111FDJG00ABC",
        power_hal: bool = True,
        qemu_cpu: str = "cortex-a76",
        uptime_s: float = 5000.0,
        userland: Literal["arm64", "native"] = "arm64",
    ) -> None:
        self.server = server
        self.kind = kind = kind.with_cpus(cpus)
        self.folder = Path(tempfile.mkdtemp(prefix="pf-phone-"))
        self.log = self.folder / "log"
        listener = _listen_on_loopback()
        self.serial = f"127.0.0.1:{listener.getsockname()[1]}"
        properties = {**kind.properties(), "ro.serialno": serial_number, **(properties or {})}
        banner = "".join(f"ro.product.{key}={properties[f'ro.product.{key}']};" for key in ("name", "model", "device"))
        cores = [cluster.core() for cluster in kind.clusters for _ in range(cluster.cores)]
        native = userland == "native"
        machine = "armv8l" if kind.only_32bit else "aarch64" if native else ""
        settings = {
            "folder": str(self.folder),
            "log": str(self.log),
            "listener": listener.fileno(),
            "qemu": str(parts.qemu),
            "adbd": str(parts.adbd),
            "userland": str(parts.native if native else parts.userland),
            "marked": kind.only_32bit,
            "commands": parts.commands,
            "missing": list(missing),
            "scripts": scripts(kind.sdk, kernel=kind.kernel, machine=machine),
            "state": state_files(kind.sdk, properties) | ({} if power_hal else {NO_POWER_HAL: ""}),
            "banner": f"{state}::{banner}features={','.join(features if features is not None else kind.features)};",
            "files": {**_kernel_files(kind, cores), **(files or {})},
            "policies": _policies(kind),
            "locked": kind.locked,
            "body": dict(body or {}),
            "sdk": kind.sdk,
            "data_size": data_size,
            "noexec": noexec,
            "readonly": readonly,
            "uptime_s": uptime_s,
            "env": {
                "PATH": "/system/bin:/vendor/bin",
                "ANDROID_ROOT": "/system",
                "ANDROID_DATA": "/data",
                "EXTERNAL_STORAGE": "/sdcard",
                "TMPDIR": "/data/local/tmp",
                "HOME": "/",
                "HOSTNAME": kind.device,
                "ADBD_PORT": "5555",
                "QEMU_CPU": qemu_cpu,
                "QEMU_UNAME": kind.kernel,
            },
        }
        argv = [sys.executable, "-S", str(_INIT)]
        try:
            with (self.folder / "init.log").open("wb") as errors:
                # A session of its own: ^C is for the tests, whose last words the phone must hear.
                self._init = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                )
            listener.close()
            self._ask(op="settings", settings=settings)
        except BaseException:
            self.close()
            raise

    # --- the link

    def connect(self) -> str:
        """`adb connect`, until the phone is there; returns the serial."""
        if self.server.ask(f"host:connect:{self.serial}") is None:
            self.server("connect", self.serial)
        self.wait_for("device", "recovery", "sideload", "bootloader", "unauthorized")
        return self.serial

    def wait_for(self, *states: str, within_s: float = _LIMIT_S) -> str:
        """Until `adb devices` shows one of these states of it ("" is: not listed)."""
        end_s = time.monotonic() + within_s
        while (now := self.state()) not in states:
            if time.monotonic() > end_s:
                raise TimeoutError(f"{self.serial}: wanted {' or '.join(states)}, is {now!r} after {within_s} s")
            time.sleep(0.01)
        return now

    def state(self) -> str:
        """As `adb devices` shows it now; "" when it does not."""
        # A server that is gone is started anew by the client.
        listed = self.server.ask("host:devices")
        if listed is None:
            listed = self.server("devices").stdout
        rows = (line.split("\t") for line in listed.splitlines() if "\t" in line)
        return next((row[1] for row in rows if row[0] == self.serial), "")

    def cut(self) -> None:
        """The link drops now; the adb server connects again by itself."""
        self._ask(op="cut")

    def cut_after(self, sent_bytes: int, *, way: str = "up") -> None:
        """The link drops once, after exactly so many further bytes to the phone (`up`) or from it (`down`)."""
        if sent_bytes < 1:
            raise ValueError("at least one byte passes; use cut()")
        self._ask(op="cable", cut_after={way: sent_bytes})

    def stall(self) -> None:
        """The link freezes: nothing passes either way, nothing is closed."""
        self._ask(op="cable", mode="stall")

    def refuse(self) -> None:
        """Connection refused, on new links; one that exists stays (`cut` it)."""
        self._ask(op="cable", mode="refuse")

    def go_offline(self) -> None:
        """Cut, and not to be had again until `heal`: adb shows it as offline while it tries."""
        self.refuse()
        self.cut()

    def unauthorized(self) -> None:
        """The phone asks for permission, and nobody gives it: on new links, and the old one is cut."""
        self._ask(op="cable", mode="unauthorized")
        self.cut()

    def limit_rate(self, bytes_per_s: float) -> None:
        """Each way."""
        self._ask(op="cable", rate_bytes_per_s=bytes_per_s)

    def heal(self) -> None:
        """The cable is whole again: no fault on old or new links."""
        self._ask(op="cable")

    def passed_bytes(self) -> dict[str, int]:
        """Bytes since the cable's last setting: {"up": to the phone, "down": from it}."""
        return dict(self._ask(op="passed")["passed"])

    def cuts(self) -> int:
        """How many times `cut_after` has cut."""
        return int(self._ask(op="passed")["cuts"])

    # --- adbd and boots

    def kill_adbd(self, *, with_children: bool = False) -> None:
        """SIGKILL to adbd. with_children: to all that it started too, detached or not, as Android's init does."""
        self._ask(op="kill_adbd", children=with_children)

    def start_adbd(self) -> None:
        self._ask(op="start_adbd")

    def reboot(self, *, down_s: float = 0.0, connect: bool = True) -> None:
        """Every process dies, the link drops; a new boot id and uptime. /data stays, and what `settings` put."""
        self._ask(op="go_down")
        if down_s:
            time.sleep(down_s)
        self._ask(op="boot")
        if connect:
            self.connect()

    # --- what it feels

    def set_body(self, *, after_s: float = 0.0, **values: object) -> None:
        """Values of phone_body.Body, now or (degrees: evenly, the rest: at the end) over so many seconds."""
        self._ask(op="body", values=values, after_s=after_s)

    def set_thermal(self, status: int, skin_c: float | None = None, *, cpu_c: float | None = None) -> None:
        """Thermal status 0..6 and temperatures, now."""
        given = {"skin_c": skin_c, "cpu_c": cpu_c}
        self.set_body(thermal_status=status, **{key: value for key, value in given.items() if value is not None})

    def set_battery(
        self,
        *,
        temperature_c: float | None = None,
        level: int | None = None,
        status: int | None = None,
        plugged: str | None = None,
    ) -> None:
        """status: 2 charging, 3 discharging, 4 not charging, 5 full. plugged: "usb", "ac", "wireless", "dock", ""."""
        given: dict[str, Any] = {
            "battery_c": temperature_c, "battery_level": level, "battery_status": status, "plugged": plugged,
        }  # fmt: skip
        self.set_body(**{key: value for key, value in given.items() if value is not None})

    def cool_down(self, after_s: float, *, skin_c: float = 30.0, battery_c: float = 27.0, cpu_c: float = 38.0) -> None:
        """Cools evenly from now on; the thermal status is 0 at the end."""
        self.set_body(after_s=after_s, thermal_status=0, skin_c=skin_c, battery_c=battery_c, cpu_c=cpu_c)

    def heat_up(self, after_s: float, *, status: int = 2, skin_c: float = 44.0) -> None:
        """Warms evenly from now on; the thermal status is `status` at the end."""
        self.set_body(after_s=after_s, thermal_status=status, skin_c=skin_c, cpu_c=skin_c + 30)

    def set_clock(self, cpu: int, ghz: float) -> float:
        """What `cpu`, and those that share its clock, run at from now on; returns the nearest step that there is."""
        return float(self._ask(op="clock", cpu=cpu, values={"clock_ghz": ghz})["current_khz"]) / 1e6

    def set_cap(self, cpu: int, ghz: float) -> float:
        """scaling_max_freq, as a thermal governor lowers it; returns the nearest step that there is."""
        return float(self._ask(op="clock", cpu=cpu, values={"cap_ghz": ghz})["cap_khz"]) / 1e6

    # --- what is on it

    def put(self, path: str, text: str, mode: int = 0o444) -> None:
        """A text file of the phone: /proc's and /sys's too. Nothing in its shell is needed for it."""
        self._ask(op="put", path=path, text=text, mode=mode)

    def read(self, path: str) -> str:
        return str(self._ask(op="read", path=path)["text"])

    def remove(self, path: str) -> None:
        self._ask(op="remove", path=path)

    def list(self, path: str) -> Sequence[str]:
        """Names in a folder of the phone."""
        return tuple(self._ask(op="list", path=path)["names"])

    def fill(self, leave_bytes: int) -> None:
        """Fill /data's disk up to what is to be left."""
        self._ask(op="fill", leave_bytes=leave_bytes)

    def empty(self) -> None:
        """Undo `fill`."""
        self.remove("/data/.ballast")

    @property
    def pid(self) -> int:
        """Of its process outside, whose one child is its PID 1."""
        return self._init.pid

    def ps(self) -> Sequence[str]:
        """Command lines of its processes, but init's and adbd's: qemu's words taken away."""
        lines = [" ".join(_own_words(words)) for _, _, words in self._ask(op="processes")["processes"]]
        return tuple(line for line in lines if line and "--device_banner" not in line)

    def calls(self, *programs: str) -> Sequence[str]:
        """Every call of dumpsys, cmd, settings, svc, input and logcat (or only those named), in order, as typed."""
        lines = self.read(f"{STATE}/{CALLS}").splitlines()
        return tuple(line for line in lines if not programs or line.split(" ")[0] in programs)

    def forget_calls(self) -> None:
        self.put(f"{STATE}/{CALLS}", "")

    def setting(self, namespace: str, name: str) -> str | None:
        """A value that `settings` holds; None when there is none."""
        if name not in self.list(f"{STATE}/settings/{namespace}"):
            return None
        return self.read(f"{STATE}/settings/{namespace}/{name}").rstrip("\n")

    def settings(self) -> dict[str, str]:
        """All settings as namespace/name → value: equal before and after where all was undone."""
        return {
            f"{space}/{name}": self.read(f"{STATE}/settings/{space}/{name}").rstrip("\n")
            for space in ("global", "secure", "system")
            for name in self.list(f"{STATE}/settings/{space}")
        }

    @property
    def fixed_performance(self) -> bool:
        """Whether fixed-performance mode is on. False where Android has none."""
        if FIXED_PERFORMANCE not in self.list(STATE):
            return False
        return self.read(f"{STATE}/{FIXED_PERFORMANCE}").strip() == "true"

    @property
    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id").strip()

    def log_lines(self, lines: Sequence[str]) -> None:
        """Append to what logcat shows."""
        self.put(f"{STATE}/logcat", self.read(f"{STATE}/logcat") + "".join(f"{line}\n" for line in lines))

    # --- the end

    def close(self) -> None:
        init = getattr(self, "_init", None)
        if init is not None:
            init.stdin.close()
            try:
                init.wait(_LIMIT_S)
            except subprocess.TimeoutExpired:
                init.kill()
                init.wait()
            init.stdout.close()
            self.server.ask(f"host:disconnect:{self.serial}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Phone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._init.stdin is not None
        self._init.stdin.write(json.dumps(request).encode() + b"\n")
        self._init.stdin.flush()
        return self._answer(str(request["op"]))

    def _answer(self, doing: str) -> dict[str, Any]:
        assert self._init.stdout is not None
        line = self._init.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its PID 1 ended ({self._init.poll()})"}
        if "error" in answer:
            logs = "".join(
                path.read_text(errors="replace")[-2000:]
                for path in (self.log, self.folder / "init.log")
                if path.exists()
            )
            raise RuntimeError(f"test phone, {doing}: {answer['error']}\n{logs}".rstrip())
        return dict(answer)


class MakePhone(Protocol):
    """The fixtures' factory: kind is a name of KINDS, android another release of it, the rest as Phone takes it.

    The phone is connected unless told not to be, and closed by the fixture.
    """

    def __call__(self, kind: str = "pixel8", *, android: str = "", connect: bool = True, **more: Any) -> Phone: ...


def _listen_on_loopback() -> socket.socket:
    """On a free port, bound by its number: so that it stays ours while the phone refuses (phone_cable)."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as any_port:
            port = any_port.getsockname()[1]
        with contextlib.suppress(OSError):  # taken in between
            return socket.create_server(("127.0.0.1", port), backlog=16)


def _own_words(words: Sequence[str]) -> Sequence[str]:
    """What runs, without the qemu that runs it: `qemu PATH ARGV0 ARGS` (binfmt's P flag) → `ARGV0 ARGS`."""
    return words[2:] if words and re.search(r"qemu-aarch64", words[0]) else words


def _kernel_files(kind: PhoneKind, cores: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    ram, free = kind.ram_kib, kind.ram_kib // 3
    return {
        "/proc/cpuinfo": cpuinfo_text(cores, kind.cpu_features, kind.soc_model if kind.sdk < 30 else ""),
        "/proc/meminfo": f"MemTotal:     {ram:>9} kB\nMemFree:      {free // 2:>9} kB\nMemAvailable: {free:>9} kB\n",
        "/proc/version": f"Linux version {kind.kernel} (build-user@build-host) #1 SMP PREEMPT\n",
        **cpu_files(cores),
    }


def _policies(kind: PhoneKind) -> list[dict[str, Any]]:
    policies, first = [], 0
    for cluster in kind.clusters:
        cpus = list(range(first, first + cluster.cores))
        policies.append({"cpus": cpus, "frequencies_khz": cluster.frequencies_khz, "governors": kind.governors})
        first += cluster.cores
    return policies
