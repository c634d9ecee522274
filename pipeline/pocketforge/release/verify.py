"""Is a folder the release that its SHA256SUMS says, and did the owner of a key sign it? Needs no network, no toolchain.

Every fault is found and named: one list, not the first. What is signed is SHA256SUMS; it names every other file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketforge.errors import ReleaseError, StoreError
from pocketforge.outcomes import files
from pocketforge.recipe.shipped_names import MANIFEST, PROVENANCE, SIGNATURE, SUMS
from pocketforge.release.keys import SIGNATURE_BYTES, check_signature, key_id, load_public
from pocketforge.release.manifest import Manifest
from pocketforge.release.reading import Hashed, UnfitFile, hash_regular, read_regular
from pocketforge.release.sums import MOST_BYTES, read_sums

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Signed = Literal["valid", "invalid", "missing", "not checked", "none"]
_MOST_DOCUMENT_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: missing, changed, renamed, extra, link, special, changing, malformed, unsigned, signature or contents.
        path: The file's name in the release.
        words: What is wrong with it.
    """

    kind: str
    path: str
    words: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes:
        faults: In the order of names; none where all is as it should be.
        files: How many files SHA256SUMS names.
        signed: "none" is a release without a signature that nobody asked for, "not checked" one with.
        key: Id of the key that the signature was checked with; empty without one.
        sums_sha256: Of SHA256SUMS: which release it is, to the bit. Empty where there is none.
        version: Of the release; None where it has none, or cannot be read.
        recipe: Its recipe's name; empty where it cannot be read.
    """

    faults: tuple[Fault, ...]
    files: int
    signed: Signed
    key: str
    sums_sha256: str
    version: str | None
    recipe: str

    @property
    def passed(self) -> bool:
        return not self.faults


def verify_release(folder: Path, public: Path | None = None) -> Verified:
    """public: the file of a key; then a release that is not signed with it has a fault.

    Raises ReleaseError for what is no folder or no key, ToolMissing, StoreError for what cannot be read.
    """
    _check_folder(folder)
    key = load_public(public) if public else None
    try:
        return _verify(folder, key)
    except OSError as error:
        raise StoreError(f"cannot read {error.filename or folder}: {error.strerror}") from error


def _check_folder(folder: Path) -> None:
    """Raises ReleaseError."""
    if not folder.is_dir():
        raise ReleaseError(f"there is no folder {folder}", "give a release's own folder: build/NAME/release")
    if not os.path.lexists(folder / SUMS) and (folder / "release" / SUMS).is_file():
        raise ReleaseError(f"{folder} is a build's folder", f"the release is {folder / 'release'}")


def whole_release(folder: Path, public: Path | None = None) -> Verified:
    """As `verify_release`, for what builds on a release. Raises ReleaseError where it has a fault."""
    found = verify_release(folder, public)
    refuse(folder, found.faults)
    return found


def refuse(folder: Path, faults: Sequence[Fault]) -> None:
    """Raises ReleaseError where there is a fault."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ReleaseError(
            f"{folder} is not whole: {faults[0].path}: {faults[0].words}{more}",
            "pocketforge verify-release names every fault",
        )


def _verify(folder: Path, key: Ed25519PublicKey | None) -> Verified:
    faults: list[Fault] = []
    try:
        content = read_regular(folder / SUMS, MOST_BYTES)
    except UnfitFile as error:
        faults.append(Fault(error.kind, SUMS, error.words))
        content = b""
    listed, wrong = read_sums(content) if content or not faults else ({}, [])
    faults += [Fault("malformed", SUMS, words) for words in wrong]
    signed, of_signature = _signature(folder, key, content)
    faults += of_signature
    found = _hashes(folder, listed, faults)
    faults += _others(folder, listed, found)
    documents = _Documents(folder, listed, {name for name, each in found.items() if each.sha256 == listed[name]})
    faults += documents.faults()
    manifest = documents.manifest
    return Verified(
        tuple(sorted(faults, key=lambda fault: (fault.path, fault.kind, fault.words))),
        len(listed),
        signed,
        key_id(key) if key else "",
        hash_of(content) if content else "",
        manifest.version if manifest else None,
        manifest.recipe if manifest else "",
    )


def hash_of(content: bytes) -> str:
    """SHA-256, as hex."""
    return hashlib.sha256(content).hexdigest()


def _signature(folder: Path, key: Ed25519PublicKey | None, sums: bytes) -> tuple[Signed, list[Fault]]:
    try:
        signature = read_regular(folder / SIGNATURE, SIGNATURE_BYTES)
    except UnfitFile as error:
        if error.kind == "missing":
            unsigned = Fault("unsigned", SIGNATURE, "the release is not signed, and a key was given")
            return ("missing", [unsigned]) if key else ("none", [])
        return "invalid", [Fault(error.kind, SIGNATURE, error.words)]
    if len(signature) != SIGNATURE_BYTES:
        words = f"wanted a signature of {SIGNATURE_BYTES} bytes, found {len(signature)}"
        return "invalid", [Fault("malformed", SIGNATURE, words)]
    if key is None:
        return "not checked", []
    if check_signature(key, signature, sums):
        return "valid", []
    words = f"it is not key {key_id(key)}'s signature of this {SUMS}: of another key, or of another release"
    return "invalid", [Fault("signature", SIGNATURE, words)]


def _hashes(folder: Path, listed: Mapping[str, str], faults: list[Fault]) -> dict[str, Hashed]:
    """Of the listed files that are there; `faults` gets what is wrong with others."""
    found: dict[str, Hashed] = {}
    for name in sorted(listed):
        try:
            found[name] = hash_regular(folder / name)
        except UnfitFile as error:
            if error.kind != "missing":
                faults.append(Fault(error.kind, name, error.words))
    return found


def _others(folder: Path, listed: Mapping[str, str], found: Mapping[str, Hashed]) -> Iterator[Fault]:
    """What is missing, changed, renamed or too much."""
    for name, hashed in found.items():
        if hashed.sha256 != listed[name]:
            yield Fault("changed", name, f"wanted SHA-256 {listed[name]}, found {hashed.sha256}")
    missing = {name: sha256 for name, sha256 in listed.items() if not os.path.lexists(folder / name)}
    for name in sorted({entry.name for entry in os.scandir(folder)} - {SUMS, SIGNATURE} - set(listed)):
        was = next((old for old, sha256 in missing.items() if _is(folder / name, sha256)), None)
        if was is None:
            yield Fault("extra", name, f"{SUMS} does not name it")
        else:
            del missing[was]
            yield Fault("renamed", name, f"it is what {SUMS} calls {was}")
    for name in missing:
        yield Fault("missing", name, "it is not there")


def _is(path: Path, sha256: str) -> bool:
    try:
        return hash_regular(path).sha256 == sha256
    except (OSError, UnfitFile):  # a folder, a link, a pipe: no file of the release under another name
        return False


class _Documents:
    """What the documents say of the files: it must be what SHA256SUMS says, and the same in both."""

    def __init__(self, folder: Path, listed: Mapping[str, str], unchanged: set[str]) -> None:
        self._folder, self._listed, self._unchanged = folder, listed, unchanged
        self.manifest: Manifest | None = None

    def faults(self) -> Iterator[Fault]:
        told: list[Mapping[str, str]] = []
        for name, said in ((MANIFEST, self._manifest_says), (PROVENANCE, self._provenance_says)):
            if name not in self._listed:
                yield Fault("contents", SUMS, f"it does not name {name}, which every release has")
            elif name in self._unchanged:  # of a changed one it is said that it is changed
                try:
                    told.append(said(self._json(name)))
                except UnfitFile as error:
                    yield Fault(error.kind, name, error.words)
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    yield Fault("contents", name, f"it does not say which files there are: {error}")
                else:
                    yield from self._compared(name, told[-1])
        if len(told) == 2 and told[0] != told[1]:
            yield Fault("contents", PROVENANCE, f"it speaks of other files than {MANIFEST}")

    def _compared(self, name: str, hashes: Mapping[str, str]) -> Iterator[Fault]:
        for path, sha256 in hashes.items():
            if self._listed.get(path) != sha256:
                yield Fault("contents", name, f"it speaks of another {path} than {SUMS}")
        for file in self.manifest.files if self.manifest and name == MANIFEST else ():
            if file.sidecar not in self._listed:
                yield Fault("contents", name, f"{SUMS} does not name the sidecar {file.sidecar}")

    def _json(self, name: str) -> Any:
        content = read_regular(self._folder / name, _MOST_DOCUMENT_BYTES)
        if hash_of(content) != self._listed[name]:
            raise UnfitFile("changing", "it changed while the release was read")
        return json.loads(content)

    def _manifest_says(self, content: Any) -> dict[str, str]:
        self.manifest = files.from_json(content, Manifest)
        loaded = {file.path: file.sha256 for file in self.manifest.files}
        return loaded | {file.path: file.sha256 for file in self.manifest.shared}

    def _provenance_says(self, content: Any) -> dict[str, str]:
        return {str(each["name"]): str(each["digest"]["sha256"]) for each in content["subject"]}
