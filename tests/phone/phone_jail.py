"""The kernel's part of a test phone: its own namespaces, root folder and system-call filter. Runs before and in PID 1.

Only what Python 3.11 lacks is asked of libc. All of it ends with PID 1: namespaces, mounts and processes alike.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
_NEWNS, _NEWTIME, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x80, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 15, 22, 38
_SYS_PIVOT_ROOT = 155
SHELL_UID = 2000

_libc = ctypes.CDLL(None, use_errno=True)


class CannotRunPhonesError(Exception):
    """This machine does not let a test phone run; says what is missing and what to do."""


def unshare(flags: int, doing: str) -> None:
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    words = [
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    ]
    if _libc.mount(*words):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target} {kind} {data}: {os.strerror(number)}")


def name_process(name: str) -> None:
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def enter_namespaces(folder: Path) -> None:
    """Fork PID 1 of new namespaces; returns in it. The caller's process waits outside, and takes PID 1 along.

    folder: the phone's, which is removed when PID 1 ends well: it does so when whoever started it is killed.

    Root maps all usual ids, so that adbd can be the `shell` user; an ordinary user can map only their own, to root.
    Raises CannotRunPhonesError.
    """
    ready, go = os.pipe()
    uid, gid, parent = os.getuid(), os.getgid(), os.getpid()
    mapper = os.fork()
    if mapper == 0:
        # Only from outside can more than one id be mapped.
        os.read(ready, 1)
        for name, own in (("uid_map", uid), ("gid_map", gid)):
            if name == "gid_map" and uid:
                Path(f"/proc/{parent}/setgroups").write_text("deny")
            Path(f"/proc/{parent}/{name}").write_text("0 0 65536" if uid == 0 else f"0 {own} 1")
        os._exit(0)
    try:
        unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWUTS | _NEWIPC | _NEWPID, "new namespaces")
    except OSError as error:
        os.kill(mapper, signal.SIGKILL)
        raise CannotRunPhonesError(
            f"a test phone needs user, mount, network and process namespaces, and this machine gives none ({error}); "
            "allow them: sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 and "
            "kernel.apparmor_restrict_unprivileged_userns=0 where these exist; in a container, run it with more rights"
        ) from None
    os.write(go, b"1")
    os.waitpid(mapper, 0)
    os.close(ready)
    os.close(go)
    child = os.fork()
    if child:
        _wait_outside(child, folder)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    socket.sethostname("localhost")
    _loopback_up()


def _wait_outside(child: int, folder: Path) -> None:
    # Hold no end of the control channel or of the listener: only PID 1 may keep them open.
    for number in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    os.closerange(3, 256)
    _, status = os.waitpid(child, 0)
    if status == 0:
        import shutil  # slow to import, and wanted by nothing else at a boot

        for mounted in folder.iterdir():
            _libc.umount2(os.fsencode(mounted), _MNT_DETACH)
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _loopback_up() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(one, get_flags, struct.pack("16sh14x", b"lo", 0)))
        fcntl.ioctl(one, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def register_arm64(folder: Path, qemu: str, *, marked: bool) -> None:
    """Let this user namespace, and no other, run arm64 programs by `qemu`.

    folder: an empty one, to mount on. marked: only programs whose ELF padding says `PF`: a 32-bit phone runs ours, and
    refuses a 64-bit program that is pushed to it. Raises CannotRunPhonesError.
    """
    magic = b"\x7fELF\x02\x01\x01\x00" + bytes(6) + (b"PF" if marked else bytes(2)) + b"\x02\x00\xb7\x00"
    mask = b"\xff" * 7 + b"\x00" + bytes(6) + (b"\xff\xff" if marked else bytes(2)) + b"\xfe\xff\xff\xff"
    escaped = ["".join(f"\\x{byte:02x}" for byte in text) for text in (magic, mask)]
    try:
        mount("none", folder, "binfmt_misc")
        # P: argv[0] as given. F: qemu is opened now, as the phone's own root has none.
        (folder / "register").write_text(f":phone-aarch64:M::{escaped[0]}:{escaped[1]}:{qemu}:PF")
    except OSError as error:
        raise CannotRunPhonesError(
            f"a test phone registers qemu for itself alone, and this kernel ({os.uname().release}) does not let it: "
            f"{error}; Linux 6.7 or newer with binfmt_misc is needed (modprobe binfmt_misc)"
        ) from None


def spawn_jailed(root: Path, argv: list[str], env: dict[str, str], log: Path, uptime_s: float) -> int:
    """Start a program as the phone's shell user, with the phone's root and clock since boot; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        _new_uptime(uptime_s)
        _own_root(root)
        _become_shell()
        _forbid_vsock()
        os.execve(argv[0], argv, env)
    except BaseException as error:
        os.write(2, f"cannot start {argv}: {error}\n".encode())
    os._exit(127)


def _new_uptime(uptime_s: float) -> None:
    """The program to be started, and its children, see the phone as booted `uptime_s` ago."""
    unshare(_NEWTIME, "a new time namespace")
    offsets = []
    for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        # To the nanosecond: in whole seconds, a phone that answers at once is a second younger than it says.
        seconds, nanoseconds = divmod(int(uptime_s * 1e9) - time.clock_gettime_ns(clock), 1_000_000_000)
        offsets.append(f"{name} {seconds} {nanoseconds}")
    Path("/proc/self/timens_offsets").write_text("\n".join(offsets))


def _own_root(root: Path) -> None:
    # Not chroot: a root shell could climb out of that.
    unshare(_NEWNS, "a new mount namespace")
    os.chdir(root)
    if _libc.syscall(_SYS_PIVOT_ROOT, b".", b".") or _libc.umount2(b".", _MNT_DETACH):
        raise OSError(ctypes.get_errno(), f"pivot_root: {os.strerror(ctypes.get_errno())}")
    os.chdir("/")


def _become_shell() -> None:
    if Path("/proc/self/uid_map").read_text().split()[2] != "1":
        os.setgroups([SHELL_UID])
        os.setgid(SHELL_UID)
        os.setuid(SHELL_UID)
        return
    # An ordinary user has one id: in a user namespace inside, it is the shell's.
    unshare(_NEWUSER, "a user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{SHELL_UID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{SHELL_UID} 0 1")
    os.setresgid(SHELL_UID, SHELL_UID, SHELL_UID)
    os.setresuid(SHELL_UID, SHELL_UID, SHELL_UID)


def _forbid_vsock() -> None:
    """adbd also listens on vsock, which no namespace keeps in: socket(AF_VSOCK) says EAFNOSUPPORT, and it gives up."""
    load, jump_equal, ret = 0x20, 0x15, 0x06
    x86_64, sys_socket, af_vsock, allow, fail, unsupported = 0xC000003E, 41, 40, 0x7FFF0000, 0x00050000, 97
    program = (
        (load, 0, 0, 4), (jump_equal, 0, 4, x86_64), (load, 0, 0, 0), (jump_equal, 0, 2, sys_socket),
        (load, 0, 0, 16), (jump_equal, 1, 0, af_vsock), (ret, 0, 0, allow), (ret, 0, 0, fail | unsupported),
    )  # fmt: skip
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(_PR_SET_SECCOMP, 2, whole, 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
