"""PID 1 of a test phone: makes its root, starts adbd, holds the cable, lets clocks and temperatures move.

Started by phone.py as a program of its own; stdin and stdout carry one JSON object a line, a request and its answer.
The first holds the settings. One loop, no threads: it forks, and must do so safely. It ends when stdin does, so
that nothing outlives the tests, killed ones included.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import phone_jail as jail
from android_commands import GONE_AT_BOOT, STATE, boot_files
from phone_body import LiveBody
from phone_cable import ADBD, Cable
from phone_hardware import Clocks, replace_text

_TICK_S = 0.05
_START_LIMIT_S = 10
# What a phone's uptime is when one can reach it again.
_BOOT_TAKES_S = 15.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class Phone:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.root = Path(settings["folder"], "root")
        self.selector = selectors.DefaultSelector()
        self.adbd = 0
        self.booted_s = 0.0
        self.heard = b""
        jail.name_process("init")
        binfmt = Path(settings["folder"], "binfmt")
        for folder in (self.root, binfmt):
            folder.mkdir()
        jail.register_arm64(binfmt, settings["qemu"], marked=settings["marked"])
        self._make_root()
        self.clocks = Clocks(self.root, settings["policies"])
        self.body = LiveBody(self.at(STATE), self.at("/sys/class/thermal"), settings["sdk"], settings["body"])
        self._lock_files()
        self.cable = Cable(socket.socket(fileno=settings["listener"]), self.selector)

    def at(self, path: str) -> Path:
        """A path of the phone, from outside."""
        return self.root / path.lstrip("/")

    # --- the root

    def _make_root(self) -> None:
        """A root of its own in memory, read-only at the end; /data, /sdcard, /dev, /sys as on a phone."""
        root, settings = self.root, self.settings
        jail.mount("tmpfs", root, "tmpfs", jail.MS_NODEV, "size=32m,mode=0755")
        for name in ("system/bin", "vendor/bin", "opt", "data", "sdcard", "proc", "sys", "dev", "etc"):
            (root / name).mkdir(parents=True)
        (root / "bin").symlink_to("system/bin")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/system/bin/sh\nshell:x:2000:2000:shell:/:/system/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nshell:x:2000:\n")
        self._bind(settings["adbd"], "/opt")
        for folder in Path(settings["userland"]).glob("lib*"):
            (root / folder.name).mkdir()
            self._bind(str(folder), f"/{folder.name}")
        for program, name in (("mksh", "sh"), ("toybox", "toybox")):
            content = bytearray(Path(settings["userland"], "bin", program).read_bytes())
            if settings["marked"]:
                content[14:16] = b"PF"
            self.at(f"/system/bin/{name}").write_bytes(content)
            self.at(f"/system/bin/{name}").chmod(0o755)
        for name in settings["commands"]:
            self.at(f"/system/bin/{name}").symlink_to("toybox")
        for name, text in settings["scripts"].items():
            script = self.at(f"/system/bin/{name}")
            script.unlink(missing_ok=True)
            script.write_text(text)
            script.chmod(0o755)
        for name in settings["missing"]:
            self.at(f"/system/bin/{name}").unlink()
        flags = jail.MS_NOSUID | jail.MS_NODEV
        self._folder_in_memory("/data", flags | (jail.MS_NOEXEC if settings["noexec"] else 0), settings["data_size"])
        self._folder_in_memory("/sdcard", flags | jail.MS_NOEXEC, "64m")
        self._folder_in_memory("/dev", jail.MS_NOSUID, "4m")
        self._folder_in_memory("/sys", flags | jail.MS_NOEXEC, "8m")
        self._devices()
        jail.mount("proc", root / "proc", "proc", flags | jail.MS_NOEXEC)
        self.at(STATE).mkdir()
        for name, text in settings["state"].items():
            self._shell_file(self.at(STATE) / name, text)
        for folder in (self.at(STATE), *(p for p in self.at(STATE).rglob("*") if p.is_dir())):
            folder.chmod(0o777)
        for place, text in settings["files"].items():
            self.put(place, text)
        self.put(_BOOT_ID, "")
        self.at("/data/local/tmp").mkdir(parents=True)
        self._give_to_shell(self.at("/data/local/tmp"), 0o771)
        self._give_to_shell(self.at("/sdcard"), 0o770)
        if settings["readonly"]:
            jail.mount("none", self.at("/data"), flags=jail.MS_REMOUNT | jail.MS_RDONLY | flags)
        jail.mount("none", root, flags=jail.MS_REMOUNT | jail.MS_RDONLY | jail.MS_NODEV)

    def _bind(self, source: str, target: str) -> None:
        jail.mount(source, self.at(target), flags=jail.MS_BIND)
        flags = jail.MS_REMOUNT | jail.MS_BIND | jail.MS_RDONLY | jail.MS_NOSUID | jail.MS_NODEV
        # Flags that the place has outside cannot be taken away inside: keep those that matter here.
        with contextlib.suppress(PermissionError):
            jail.mount("none", self.at(target), flags=flags)

    def _folder_in_memory(self, path: str, flags: int, size: str) -> None:
        jail.mount("tmpfs", self.at(path), "tmpfs", flags, f"size={size},mode=0755")

    def _devices(self) -> None:
        dev = self.at("/dev")
        for name in _DEVICES:
            (dev / name).touch()
            jail.mount(f"/dev/{name}", dev / name, flags=jail.MS_BIND)
        (dev / "pts").mkdir()
        jail.mount(
            "devpts", dev / "pts", "devpts", jail.MS_NOSUID | jail.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"
        )
        (dev / "ptmx").symlink_to("pts/ptmx")

    def _give_to_shell(self, path: Path, mode: int) -> None:
        with contextlib.suppress(OSError):  # an ordinary user's phone has one owner of everything
            os.chown(path, jail.SHELL_UID, jail.SHELL_UID)
        path.chmod(mode)

    def _shell_file(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._give_to_shell(path, 0o666)

    def put(self, path: str, text: str, mode: int = 0o444) -> None:
        """A file of the phone: in /proc, on top of the kernel's; in the shell's folders, the shell's own."""
        if path.startswith("/proc/"):
            hidden = self.at("/dev/.proc") / path.replace("/", "_")
            hidden.parent.mkdir(exist_ok=True)
            new = not hidden.exists()
            hidden.write_text(text)
            hidden.chmod(0o444)
            if new:
                jail.mount(str(hidden), self.at(path), flags=jail.MS_BIND)
        elif path.startswith((STATE, "/data/", "/sdcard/")):
            self._shell_file(self.at(path), text)
        else:
            self.at(path).parent.mkdir(parents=True, exist_ok=True)
            replace_text(self.at(path), text, mode)

    def _lock_files(self) -> None:
        for pattern in self.settings["locked"]:
            found = list(self.root.glob(pattern.lstrip("/")))
            if not found:
                raise ValueError(f"nothing to lock at {pattern}")
            for path in found:
                path.chmod(0)

    # --- boots

    def boot(self, uptime_s: float) -> None:
        self.booted_s = time.monotonic() - uptime_s
        self.put(_BOOT_ID, Path("/proc/sys/kernel/random/uuid").read_text())
        for name, text in boot_files(self.settings["sdk"]).items():
            self._shell_file(self.at(STATE) / name, text)
        for name in GONE_AT_BOOT:
            (self.at(STATE) / name).unlink(missing_ok=True)
        self.start_adbd()

    def start_adbd(self) -> None:
        if self.adbd:
            raise RuntimeError("adbd runs already")
        argv = ["/opt/ld-linux-x86-64.so.2", "--library-path", "/opt", "/opt/adbd"]
        argv += ["--device_banner", self.settings["banner"]]
        uptime_s = time.monotonic() - self.booted_s
        log = Path(self.settings["log"])
        self.adbd = jail.spawn_jailed(self.root, argv, self.settings["env"], log, uptime_s)
        end_s = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < end_s:
            self.reap()
            if not self.adbd:
                raise RuntimeError(f"adbd ended at once; see {log}")
            with contextlib.suppress(OSError):
                socket.create_connection(ADBD, 1).close()
                return
            time.sleep(0.005)
        raise RuntimeError(f"adbd does not listen after {_START_LIMIT_S} s; see {log}")

    def kill_adbd(self, *, children: bool) -> None:
        """As if it crashed; with all that it started, as Android's init does it, or without."""
        if children:
            self._kill_all()
        elif self.adbd:
            os.kill(self.adbd, signal.SIGKILL)
        self._until(lambda: not self.adbd)

    def _kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        self._until(lambda: not self._any_child())

    def _any_child(self) -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _until(self, done: Any) -> None:
        end_s = time.monotonic() + _START_LIMIT_S
        while True:
            self.reap()
            if done():
                return
            if time.monotonic() > end_s:
                raise RuntimeError(f"processes do not end: {self.processes()}")
            time.sleep(0.002)

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.adbd:
                    self.adbd = 0
        self.adbd = 0

    # --- requests

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request.pop("op")
        if operation == "cable":
            self.cable.set(**request)
        elif operation == "cut":
            self.cable.cut()
        elif operation == "passed":
            return {"passed": self.cable.passed, "cuts": self.cable.cuts, "links": len(self.cable.links)}
        elif operation == "kill_adbd":
            self.kill_adbd(children=request["children"])
        elif operation == "start_adbd":
            self.start_adbd()
        elif operation == "go_down":
            self._kill_all()
            self.cable.cut()
        elif operation == "boot":
            self.boot(_BOOT_TAKES_S)
        elif operation == "body":
            self.body.set(request["values"], request["after_s"])
        elif operation == "clock":
            current_khz, cap_khz = self.clocks.set(request["cpu"], **request["values"])
            return {"current_khz": current_khz, "cap_khz": cap_khz}
        elif operation == "put":
            self.put(request["path"], request["text"], request["mode"])
        elif operation == "remove":
            self.at(request["path"]).unlink(missing_ok=True)
        elif operation == "read":
            return {"text": self.at(request["path"]).read_text(errors="replace")}
        elif operation == "fill":
            self.fill(request["leave_bytes"])
        elif operation == "list":
            return {"names": sorted(path.name for path in self.at(request["path"]).iterdir())}
        elif operation == "processes":
            return {"processes": list(self.processes())}
        else:
            raise ValueError(f"no such request: {operation}")
        return {}

    def fill(self, leave_bytes: int) -> None:
        ballast = self.at("/data/.ballast")
        ballast.unlink(missing_ok=True)
        disk = os.statvfs(self.at("/data"))
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leave_bytes)

    def processes(self) -> Iterator[tuple[int, int, list[str]]]:
        """(process id, parent's, command line) of all but this one; zombies have no command line."""
        for folder in sorted(self.at("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                if folder.name != "1":
                    yield int(folder.name), parent, [word.decode(errors="replace") for word in words]

    def _control(self, _events: int) -> None:
        data = os.read(0, 1 << 20)
        if not data:
            os._exit(0)
        *lines, self.heard = (self.heard + data).split(b"\n")
        for line in lines:
            try:
                answer = self.answer(json.loads(line))
            except Exception as error:  # the test gets it, and the phone lives on
                answer = {"error": f"{type(error).__name__}: {error}"}
            tell(answer)

    def run(self) -> None:
        self.selector.register(0, selectors.EVENT_READ, self._control)
        next_s = time.monotonic()
        while True:
            wait_s = 0.005 if self.cable.rate_bytes_per_s else max(0.0, next_s - time.monotonic())
            for key, events in self.selector.select(wait_s):
                # A callback may have closed what another event of this batch is about.
                now = self.selector.get_map().get(key.fd)
                if now is not None and now.fileobj is key.fileobj:
                    key.data(events)
            self.cable.tick()
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + _TICK_S
                self.reap()
                self.clocks.tick()
                self.body.tick()


def read_line() -> bytes:
    """Byte by byte: what follows is for the loop."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def tell(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    settings = json.loads(read_line())["settings"]
    try:
        jail.enter_namespaces(Path(settings["folder"]))
        phone = Phone(settings)
        phone.boot(settings["uptime_s"])
    except (jail.CannotRunPhonesError, OSError, RuntimeError, ValueError) as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    tell({})
    phone.run()


if __name__ == "__main__":
    main()
