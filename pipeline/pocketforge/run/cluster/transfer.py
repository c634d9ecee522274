"""Files from one machine to another, in pieces. What arrives is believed by its SHA-256 alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pocketforge.errors import StoreError
from pocketforge.files import explain_os_error
from pocketforge.run.cluster.wire import PIECE_BYTES, Piece
from pocketforge.run.store import Entry, Store


def pieces(files: Mapping[str, Path]) -> Iterator[tuple[Piece, ...]]:
    """Name → file, as messages of about PIECE_BYTES. Raises OSError."""
    batch: list[Piece] = []
    size = 0
    for name, path in files.items():
        with path.open("rb") as file:
            offset = 0
            while True:
                content = file.read(PIECE_BYTES - size)
                batch.append(Piece(name, offset, content))
                offset += len(content)
                size += len(content)
                if size >= PIECE_BYTES:
                    yield tuple(batch)
                    batch, size = [], 0
                elif len(content) == 0 or file.peek(1) == b"":
                    break
    if batch:
        yield tuple(batch)


def write(folder: Path, parts: Sequence[Piece]) -> None:
    """Raises StoreError: a name that leaves the folder, a disk that is full."""
    for part in parts:
        path = folder / _inside(part.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if part.offset else "wb") as file:
                file.seek(part.offset)
                file.write(part.content)
        except OSError as error:
            raise explain_os_error(error, folder) from error


def files_of(entry: Entry) -> dict[str, Path]:
    return {name: entry.files / name for name in sorted(entry.hashes)}


def publish(store: Store, key: str, files: Path, meta: Mapping[str, object], hashes: Mapping[str, str]) -> Entry:
    """Make what arrived in a workspace the result of `key`. Raises StoreError for what is not what was sent."""
    entry = store.publish(key, files, dict(meta))
    if entry.hashes != dict(hashes):
        store.discard(key)
        wrong = sorted({name for name, _ in entry.hashes.items() ^ hashes.items()})
        raise StoreError(f"result {key[:12]} did not arrive as it was sent: {', '.join(wrong[:3])}", "build again")
    return entry


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StoreError(f"refused a file named {name!r}: it would lie outside its folder")
    return path
