"""Where a remote store is: what `--remote-store` and POCKETFORGE_REMOTE_STORE may say.

    SCHEME://[USER[:PASSWORD]@][HOST[:PORT]][/PATH]

What is shown of it, in messages, events and logs, never holds the password.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass, field

from pocketforge.errors import RecipeError
from pocketforge.folders import REMOTE_VARIABLE

HINT = (
    f"--remote-store (or {REMOTE_VARIABLE}) takes off, file:///FOLDER, sftp://USER@HOST/FOLDER, s3://BUCKET/FOLDER "
    "or another URL that fsspec knows"
)
FILE = ("file", "local")
SFTP = ("sftp", "ssh")
# They have no folders, and a file is there whole or not at all.
OBJECTS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory")
# Their credentials are no part of a URL, and what stands before an @ would be taken for a bucket's name.
_WITHOUT_USERS = (*FILE, *OBJECTS)
_MOST_PORT = 65_535
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
# One @ behind the user: a password with a bare @ / ? # would end there, and its rest be shown as a host.
_REST = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:@/?#]*)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^@?#]*)?"
)


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """One remote store.

    Attributes:
        scheme: Which kind of file system.
        host: Of the server, or the bucket; empty where there is none.
        port: None: the kind's own.
        user: None: the kind's own.
        password: None: by key, or as the kind is set up.
        path: Of the store's folder there, with a slash in front; empty: the root.
        words: The URL to show, without the password.
    """

    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None = field(repr=False)
    path: str
    words: str

    @property
    def url(self) -> str:
        """For fsspec; it may hold the password."""
        secret = "" if self.password is None else f":{urllib.parse.quote(self.password, safe='')}"
        user = "" if self.user is None else f"{urllib.parse.quote(self.user, safe='')}{secret}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{user}{self.host}{port}{self.path}"

    def hide(self, text: str) -> str:
        """The text without the password, in either writing: libraries put URLs and arguments into their errors."""
        if self.password:
            quoted = {urllib.parse.quote(self.password, safe=safe) for safe in ("", "/")}
            for secret in {self.password, *quoted}:
                text = text.replace(secret, "***")
        return text


def place_of(said: str) -> RemotePlace | None:
    """The place that a URL means; None for "off". Raises RecipeError, which shows no password."""
    if said == "off":
        return None
    scheme, mark, rest = said.partition("://")
    scheme = scheme.lower()
    if not mark:
        raise RecipeError("this is no URL of a remote store (it is not shown: it may hold a password)", HINT)
    if "::" in scheme or not _SCHEME.fullmatch(scheme):
        raise RecipeError(
            "a remote store's URL begins with one scheme, as in sftp://; chains with :: are not taken", HINT
        )
    found = _REST.fullmatch(rest)
    if found is None or not rest.isprintable() or int(found["port"] or 0) > _MOST_PORT:
        raise RecipeError(
            f"what stands behind {scheme}:// is no remote store (it is not shown: it may hold a password)",
            f"{HINT}; in a user or password each of @ : / ? # is written as %40 %3A %2F %3F %23, and settings of a "
            "kind come from its own environment, not from behind a ?",
        )
    return _checked(scheme, found)


def asked(option: str | None) -> RemotePlace | None:
    """What the option says, else POCKETFORGE_REMOTE_STORE; None where neither asks for one. Raises RecipeError."""
    said = option if option is not None else os.environ.get(REMOTE_VARIABLE, "")
    return place_of(said) if said else None


def _checked(scheme: str, found: re.Match[str]) -> RemotePlace:
    user, password, host, path = found["user"], found["password"], found["host"], found["path"] or ""
    port = int(found["port"]) if found["port"] else None
    where = f"{host}:{port}" if port is not None else host
    if user is not None and scheme in _WITHOUT_USERS:
        hint = "a file has no user" if scheme in FILE else "credentials come from the kind's own settings (AWS_… of s3)"
        raise RecipeError(f"a {scheme}:// URL has no user or password before its {where or 'path'}", hint)
    if scheme in FILE and (where or path in ("", "/")):
        raise RecipeError(f"of a folder here, wanted file:///FOLDER, found {scheme}://{where}{path}", HINT)
    if scheme in (*SFTP, "s3", "s3a", "gs", "gcs") and not host:
        raise RecipeError(f"{scheme}://{path} names no {'host' if scheme in SFTP else 'bucket'}", HINT)
    if any(part in (".", "..") for part in path.split("/")):
        raise RecipeError(f"the folder {path} of a remote store has . or .. in it", "write where it is")
    if user is not None:
        where = f"{user}@{where}"
    unquoted = None if password is None else urllib.parse.unquote(password)
    name = None if user is None else urllib.parse.unquote(user)
    path = path.rstrip("/")
    return RemotePlace(scheme, host, port, name, unquoted, path, f"{scheme}://{where}{path}")
