"""The store that a build shares with others: where it is, whose signatures count, whether it is written to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketforge import events
from pocketforge.errors import RecipeError
from pocketforge.folders import (
    REMOTE_PUBLIC_KEY_VARIABLE,
    REMOTE_READ_ONLY_VARIABLE,
    REMOTE_SIGNING_KEY_VARIABLE,
    REMOTE_VARIABLE,
)
from pocketforge.release import keys
from pocketforge.run.remote import BuildRemote, NoRemote, Remote
from pocketforge.run.remote_files import PATIENCE_S, RemoteFiles, check_kind
from pocketforge.run.remote_manifest import Check, Signer
from pocketforge.run.remote_place import HINT, RemotePlace, asked
from pocketforge.run.remote_store import RemoteStore


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A remote store, as it was asked for.

    Attributes:
        place: Where it is.
        sign: What signs results that are sent there.
        check: Whose signature a result must have; None takes what anybody wrote.
        writes: Whether anything is sent there.
        patience_s: How long one call is waited for.
    """

    place: RemotePlace
    sign: Signer | None = None
    check: Check | None = None
    writes: bool = True
    patience_s: float = PATIENCE_S

    def opened(self) -> RemoteStore:
        """Nothing is connected to yet."""
        return RemoteStore(RemoteFiles(self.place, patience_s=self.patience_s), sign=self.sign, check=self.check)


def request_of(option: str | None) -> RemoteRequest | None:
    """What the option and the environment ask for; None where they ask for none.

    With a public key and no private one, nothing is sent: what is not signed would be refused by all. Raises
    RecipeError, ReleaseError, ToolMissing; nothing is connected to.
    """
    place = asked(option)
    if place is None:
        return None
    check_kind(place)
    read_only = _read_only()
    sign, check = None, None
    public_path = os.environ.get(REMOTE_PUBLIC_KEY_VARIABLE, "")
    public = keys.load_public(Path(public_path)) if public_path else None
    if os.environ.get(REMOTE_SIGNING_KEY_VARIABLE):
        sign, own = keys.signer_of_variable(REMOTE_SIGNING_KEY_VARIABLE)
        if public is not None and keys.key_id(public) != keys.key_id(own):
            raise RecipeError(
                f"{REMOTE_SIGNING_KEY_VARIABLE} is key {keys.key_id(own)}, and {REMOTE_PUBLIC_KEY_VARIABLE} asks for "
                f"{keys.key_id(public)}",
                "whoever asks for that key would refuse what this one signs",
            )
        public = own
    if public is not None:
        trusted = public

        def check(content: bytes, signature: bytes) -> bool:
            return keys.check_signature(trusted, signature, content)

    writes = not read_only and (sign is not None or public is None)
    return RemoteRequest(place, sign, check, writes)


def must_be_asked(option: str | None) -> RemoteRequest:
    """The same for commands whose work it is. Raises RecipeError where nobody says which store."""
    request = request_of(option)
    if request is None:
        raise RecipeError("no remote store is named", HINT)
    return request


def must_write(request: RemoteRequest) -> RemoteStore:
    """For commands that change what is there. Raises RecipeError."""
    if not request.writes:
        raise RecipeError(
            f"{request.place.words} is only read here",
            f"{REMOTE_READ_ONLY_VARIABLE} says so, or {REMOTE_PUBLIC_KEY_VARIABLE} asks for signatures and "
            f"{REMOTE_SIGNING_KEY_VARIABLE} is not there to make them",
        )
    return request.opened()


@contextlib.contextmanager
def for_build(request: RemoteRequest | None, emit: events.Emit) -> Iterator[Remote]:
    """What a build's walk asks. At its end, what was made has been sent."""
    if request is None:
        yield NoRemote()
        return
    with BuildRemote(request.opened(), emit, writes=request.writes) as remote:
        yield remote


def _read_only() -> bool:
    said = os.environ.get(REMOTE_READ_ONLY_VARIABLE, "")
    if said not in ("", "0", "1"):
        raise RecipeError(f"{REMOTE_READ_ONLY_VARIABLE} is {said!r}", f"1: nothing is sent to {REMOTE_VARIABLE}; 0")
    return said == "1"
