"""The adb server: where it listens, and asking it what it is, over its own socket.

An adb client that meets a server of another version kills it and starts its own: the user's IDE, emulator and shells
lose their phones. So the server is asked before our client is ever started (`host:version`, AOSP
packages/modules/adb/SERVICES.TXT), and a server of another version is left alone.

Socket names are those of AOSP adb/socket_spec.cpp; which variable wins is adb/client/commandline.cpp's order.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.errors import ServerLost, ServerMismatch

DEFAULT_PORT = 5037
_LOCAL_HOSTS = ("", "localhost")  # a server for any other host is never started by the client (AOSP socket_spec.cpp)
# A server answers at once, also while it waits for phones; a loaded machine gets this much.
ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the adb server listens. kind: "tcp", "path" or "abstract"; name: of a Unix socket."""

    kind: str
    spec: str
    host: str = ""
    port: int = 0
    name: str = ""

    @property
    def local(self) -> bool:
        """Whether an adb client would start a server there when none is."""
        return self.kind != "tcp" or self.host in _LOCAL_HOSTS


def address(environ: Mapping[str, str]) -> Address:
    """Where this environment's adb client would look. Raises ServerLost when the variables do not say a place."""
    spec = environ.get("ADB_SERVER_SOCKET")
    if spec is None:
        host, port = environ.get("ANDROID_ADB_SERVER_ADDRESS"), environ.get("ANDROID_ADB_SERVER_PORT") or DEFAULT_PORT
        spec = f"tcp:{port}" if host is None else f"tcp:{host}:{port}"
        source = "ANDROID_ADB_SERVER_ADDRESS and ANDROID_ADB_SERVER_PORT"
    else:
        source = "ADB_SERVER_SOCKET"
    kind, colon, rest = spec.partition(":")
    if colon and kind == "tcp":
        host, _, port = rest.rpartition(":")
        if port.isascii() and port.isdecimal() and 0 < int(port) < 65536:
            return Address("tcp", spec, host.removeprefix("[").removesuffix("]"), int(port))
    elif rest and kind in ("local", "localfilesystem"):
        return Address("path", spec, name=rest)
    elif rest and kind == "localabstract":
        return Address("abstract", spec, name=rest)
    raise ServerLost(
        f"{source} says that the adb server is at {spec!r}, which is no address we can ask",
        "use tcp:HOST:PORT, localfilesystem:PATH or localabstract:NAME, or unset it",
    )


def ask_version(where: Address, timeout_s: float = ASK_TIMEOUT_S) -> int | None:
    """The server's interface version (41 of 1.0.41), or None where nothing listens.

    Raises ServerLost when what listens there does not answer in time, or does not speak adb.
    """
    try:
        with _connect(where, timeout_s) as link:
            link.sendall(b"000chost:version")
            status = _read(link, 4)
            if status == b"OKAY":
                return int(_read(link, int(_read(link, 4), 16)), 16)
            said = status + link.recv(200)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except TimeoutError:
        raise ServerLost(
            f"the adb server at {where.spec} took the connection and did not answer within {timeout_s:g} s",
            "end that process (its phones are lost to it already) and try again",
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise ServerLost(
            f"what listens at {where.spec} did not answer as an adb server does ({error})",
            "see which program has that address, or set ADB_SERVER_SOCKET to where the adb server is",
        ) from None
    raise ServerLost(
        f"what listens at {where.spec} did not answer as an adb server does: it said {said!r}",
        "see which program has that address, or set ADB_SERVER_SOCKET to where the adb server is",
    )


def check(where: Address, client: str, program: str) -> bool:
    """Whether a server runs that this client may speak to. client: as "1.0.41 (34.0.5)".

    False: none runs, and the client may start one. Raises ServerMismatch and ServerLost.
    """
    version = ask_version(where)
    if version is None:
        if where.local:
            return False
        raise ServerLost(
            f"no adb server answers at {where.spec}, and adb starts none on another host",
            "start it there, or unset ADB_SERVER_SOCKET and ANDROID_ADB_SERVER_ADDRESS to use one of this computer",
        )
    ours = interface(client)
    if version != ours:
        raise ServerMismatch(
            f"the adb server at {where.spec} is of version 1.0.{version}; our client, {program}, is of {client}. "
            "Its first command would kill that server and everything that uses it, so it was not started",
            f"point POCKETFORGE_ADB at the adb whose server it is (as a rule your SDK's platform-tools/adb), or end "
            f"the old one yourself with that adb's kill-server; for a server apart from it: "
            f"ADB_SERVER_SOCKET=tcp:{DEFAULT_PORT + 100}",
        )
    return True


def interface(version: str) -> int:
    """The last number of "1.0.41 (34.0.5)", which client and server must share; 0 when there is none."""
    last = version.split(" ", 1)[0].rpartition(".")[2]
    return int(last) if last.isascii() and last.isdecimal() else 0


def _connect(where: Address, timeout_s: float) -> socket.socket:
    if where.kind == "tcp":
        # The client asks 127.0.0.1, then ::1, for "localhost" and for no host at all (AOSP sysdeps/network.cpp).
        return socket.create_connection((where.host or "localhost", where.port), timeout_s)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(timeout_s)
        link.connect(os.fsencode(where.name) if where.kind == "path" else b"\0" + os.fsencode(where.name))
    except BaseException:
        link.close()
        raise
    return link


def _read(link: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = link.recv(size - len(got))
        if not part:
            raise EOFError(f"it closed the connection after {got!r}")
        got += part
    return got
