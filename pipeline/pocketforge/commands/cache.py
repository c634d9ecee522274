"""Results sent to a remote store and fetched from it without a build. Trouble with it is an error here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pocketforge import events
from pocketforge.errors import DamagedEntry, RecipeError, RefusedEntry
from pocketforge.run.made import made
from pocketforge.run.remote_clear import stored_keys
from pocketforge.run.remote_store import Moved, RemoteStore, Tell
from pocketforge.run.store import Entry, Store


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was sent or fetched.

    Attributes:
        moved: How many results.
        there: How many were there already.
        moved_bytes: Of their files.
        wall_s: How long it took.
        faults: Key → what was wrong with a result that was left out.
    """

    moved: int
    there: int
    moved_bytes: int
    wall_s: float
    faults: dict[str, str]


def push(
    store: Store, remote: RemoteStore, prefixes: Sequence[str], emit: events.Emit, *, again: bool = False
) -> Exchanged:
    """Send results that the remote store has not. again: also those that it has. prefixes: of keys; all without.

    Raises RecipeError, RemoteStoreError.
    """

    def send(key: str) -> Moved | None:
        entry = store.get(key)
        if entry is None:  # cleared meanwhile
            return None
        return _told("send", entry, emit, lambda tell: remote.publish(entry, again=again, tell=tell))

    return _each(_chosen(store.keys(), prefixes, "this cache"), send)


def pull(store: Store, remote: RemoteStore, prefixes: Sequence[str], emit: events.Emit) -> Exchanged:
    """Fetch results that this store has not. prefixes: of keys; all without. Raises RecipeError, RemoteStoreError."""

    def fetch(key: str) -> Moved | None:
        with store.lock(key):
            if store.has(key):
                return Moved(0, 0, there=True)
            manifest = remote.manifest(key)
            if manifest is None:
                return None
            return _told("fetch", manifest.entry(), emit, lambda tell: remote.fetch(manifest, store, tell))

    store.must_be_writable()
    return _each(_chosen(stored_keys(remote), prefixes, remote.words), fetch)


def _each(keys: Sequence[str], move: Callable[[str], Moved | None]) -> Exchanged:
    started = time.monotonic()
    moved = there = moved_bytes = 0
    faults = {}
    for key in keys:
        try:
            done = move(key)
        except RefusedEntry as refused:
            faults[key] = f"refused: {refused.why}"
            continue
        except DamagedEntry as damage:
            faults[key] = damage.message
            continue
        if done is not None:
            moved += not done.there
            there += done.there
            moved_bytes += done.moved_bytes
    return Exchanged(moved, there, moved_bytes, time.monotonic() - started, faults)


def _told(direction: str, entry: Entry, emit: events.Emit, move: Callable[[Tell], Moved | None]) -> Moved | None:
    """A transfer, with its news."""
    about, started = made(entry), time.monotonic()
    name = (direction, about.stage, about.lane, entry.key)

    def tell(done_bytes: int, moved_bytes: int) -> None:
        if done_bytes < entry.size_bytes:
            rate = moved_bytes / max(time.monotonic() - started, 1e-3)
            emit(events.Transferring(*name, done_bytes, entry.size_bytes, rate))

    done = move(tell)
    if done is not None and not done.there:
        emit(events.Transferred(*name, done.size_bytes, done.moved_bytes, time.monotonic() - started))
    return done


def _chosen(keys: Sequence[str], prefixes: Sequence[str], where: str) -> list[str]:
    if not prefixes:
        return list(keys)
    missing = [prefix for prefix in prefixes if not any(key.startswith(prefix) for key in keys)]
    if missing:
        raise RecipeError(
            f"{where} has no result whose key begins with {', '.join(missing)}", "pocketforge cache list shows keys"
        )
    return [key for key in keys if key.startswith(tuple(prefixes))]
