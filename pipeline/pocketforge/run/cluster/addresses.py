"""Where a scheduler is, and what a connection to it must be."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError

CA, CA_KEY, CERTIFICATE, KEY = "ca.pem", "ca-key.pem", "node.pem", "node-key.pem"
_ADDRESS = re.compile(r"(?P<kind>tls|tcp)://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """tls://HOST:PORT, or tcp://… on loopback.

    Attributes:
        kind: tls or tcp.
        host: A name or a number; of IPv6 without brackets.
        port: 0 for any that is free.
    """

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(text: str, *, insecure: bool = False, port_zero: bool = False) -> Address:
    """Raises RecipeError: no such address, or one where anybody on the way could read and write what is said.

    insecure: the user said that this is meant. port_zero: any free port.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or not (0 if port_zero else 1) <= int(found["port"]) <= 65535:
        raise RecipeError(f"a scheduler's address is tls://HOST:PORT, found {text!r}", "pocketforge docs cluster")
    address = Address(found["kind"], found["host"].strip("[]"), int(found["port"]))
    if address.kind == "tcp" and not address.is_loopback and not insecure:
        raise RecipeError(
            f"{address} is not encrypted and asks nobody who they are: whoever reaches it runs code on every worker",
            "use tls:// (pocketforge cluster init), or say --insecure on a network that is yours alone",
        )
    return address


@dataclass(frozen=True, slots=True)
class Credentials:
    """A folder of `cluster init`. Raises RecipeError where a file is missing or others may read the key.

    Attributes:
        folder: Which.
    """

    folder: Path

    def __post_init__(self) -> None:
        missing = [name for name in (CA, CERTIFICATE, KEY) if not (self.folder / name).is_file()]
        if missing:
            raise RecipeError(
                f"no certificates in {self.folder}: {', '.join(missing)} not there",
                "pocketforge cluster init makes them; copy ca.pem, node.pem and node-key.pem to each machine",
            )
        if (self.folder / KEY).stat().st_mode & 0o077:
            raise RecipeError(
                f"{self.folder / KEY} can be read by others: who has it runs code on every worker",
                f"chmod 600 {self.folder / KEY}",
            )
