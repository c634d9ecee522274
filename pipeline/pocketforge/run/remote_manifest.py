"""What a remote store says of a result: its files in parts by their SHA-256, what its maker noted, and a signature.

One JSON object: `content` is the text that is signed, `signature` is of Ed25519 in Base64, or empty. In one file, so
that of two writers no manifest meets the other's signature. Whoever can write there can write anything: all of it is
checked here, before anything is read or written by it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pocketforge.errors import RefusedEntry
from pocketforge.run.made import made
from pocketforge.run.store import Entry

FORMAT = 1
# Of what is sent and fetched at once: what a broken link costs, and what a slow one must move in time.
PART_BYTES = 4 << 20
_MOST_PART_BYTES = 64 << 20
MOST_MANIFEST_BYTES = 64 << 20
_SIGNED_AS = b"pocketforge remote store, result, format 1\n"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Gives the signature of bytes.
Signer = Callable[[bytes], bytes]
# Whether bytes have this signature: content, signature.
Check = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file.

    Attributes:
        sha256: Under which it is stored.
        size_bytes: Of its content.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class File:
    """A result's file.

    Attributes:
        sha256: Of its content.
        parts: One after another, they are it.
    """

    sha256: str
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A result.

    Attributes:
        key: Of the step that made it.
        files: Path → file.
        meta: What the maker noted beside the files, as in the local store.
    """

    key: str
    files: Mapping[str, File]
    meta: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())

    def entry(self) -> Entry:
        """As the local store would tell of it, its files not there."""
        hashes = {name: file.sha256 for name, file in self.files.items()}
        return Entry(self.key, Path(), hashes, self.size_bytes, 0.0, dict(self.meta))

    def parts(self) -> dict[str, int]:
        """SHA-256 → bytes, of every part."""
        return {part.sha256: part.size_bytes for file in self.files.values() for part in file.parts}


def sealed(manifest: Manifest, sign: Signer | None) -> bytes:
    """What is written. sign: None leaves it unsigned."""
    files = {
        name: {"sha256": file.sha256, "parts": [[part.sha256, part.size_bytes] for part in file.parts]}
        for name, file in manifest.files.items()
    }
    about = {"format": FORMAT, "key": manifest.key, "files": files, "meta": dict(manifest.meta)}
    content = json.dumps(about, sort_keys=True)
    signature = b"" if sign is None else sign(_SIGNED_AS + content.encode())
    return json.dumps({"content": content, "signature": base64.b64encode(signature).decode()}).encode()


def unsealed(data: bytes, key: str, check: Check | None) -> Manifest:
    """What was written under `key`. check: whose signature it must have; None takes any and none.

    Raises RefusedEntry.
    """
    try:
        outer = json.loads(data)
        content, signature = outer["content"].encode(), base64.b64decode(outer["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise RefusedEntry(key, "its manifest is no manifest, or was cut") from None
    if check is not None and not signature:
        raise RefusedEntry(key, "nobody signed it, and a key is asked for")
    if check is not None and not check(_SIGNED_AS + content, signature):
        raise RefusedEntry(key, "the key that is asked for has not signed it, or it was changed since")
    try:
        about = json.loads(content)
        if about["format"] != FORMAT:
            raise RefusedEntry(key, f"it is in format {str(about['format'])[:20]}, and this version reads {FORMAT}")
        if about["key"] != key:
            raise RefusedEntry(key, f"it is the result of another step, {str(about['key'])[:12]}")
        manifest = Manifest(key, {_name(name): _file(said) for name, said in about["files"].items()}, about["meta"])
        _check_paths(manifest)
        _check_meta(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = str(error) if type(error) is ValueError else f"{type(error).__name__} in it"
        raise RefusedEntry(key, f"its manifest cannot be used: {told}") from None
    return manifest


def _name(name: str) -> str:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or str(path) != name or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name[:80]!r} is no name of a file in a result")
    return name


def _file(said: Mapping[str, Any]) -> File:
    parts = tuple(Part(_sha256(sha256), _part_size(size)) for sha256, size in said["parts"])
    return File(_sha256(said["sha256"]), parts)


def _sha256(said: object) -> str:
    if not isinstance(said, str) or not _SHA256.fullmatch(said):
        raise ValueError("a hash is not 64 digits")
    return said


def _part_size(said: object) -> int:
    if type(said) is not int or not 0 < said <= _MOST_PART_BYTES:
        raise ValueError(f"a part has not 1 to {_MOST_PART_BYTES:,} bytes")
    return said


def _check_paths(manifest: Manifest) -> None:
    """One hash is one size, and no file is another's folder."""
    sizes = manifest.parts()
    if any(sizes[part.sha256] != part.size_bytes for file in manifest.files.values() for part in file.parts):
        raise ValueError("one part has two sizes")
    for name in manifest.files:
        if any(str(folder) in manifest.files for folder in PurePosixPath(name).parents):
            raise ValueError(f"{name[:80]!r} lies in a file")


def _check_meta(manifest: Manifest) -> None:
    """Whether what is done with such notes later can be done with these. Raises what that would raise."""
    about = made(manifest.entry())
    words: list[object] = [about.stage, about.lane]
    words += [word for pair in about.inputs.needs.values() for word in pair]
    for each in about.inputs.opened:
        words += [each.path, each.was, *(each.without or ())]
        if each.place is not None and type(each.place) not in (int, str):
            raise ValueError("a file that its code opened is in no place")
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ValueError("its notes are of wrong types")
    dict(about.spec)
