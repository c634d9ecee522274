"""Applying a patch: the new release is made beside its place, checked whole, and only then put there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import struct
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pocketforge.errors import ReleaseError, StoreError
from pocketforge.files import explain_os_error, refuse_special, sync_tree
from pocketforge.outcomes import files
from pocketforge.recipe.shipped_names import SIGNATURE, SUMS
from pocketforge.release.keys import SIGNATURE_BYTES, check_signature, key_id, load_public
from pocketforge.release.patch import (
    MOST_FILE_BYTES,
    PatchedFile,
    PatchHead,
    check_order,
    dictionary,
    refuse_within,
    window_log,
    zstandard,
)
from pocketforge.release.reading import UnfitFile, read_regular
from pocketforge.release.sums import MOST_BYTES, name_fault
from pocketforge.release.verify import Verified, verify_release, whole_release

_MOST_HEAD_BYTES, _MOST_FILES = 2**22, 4096
_CHUNK_BYTES = 2**20
# What zipfile raises for bytes that are no ZIP, for a name in one that is no text, and for what it cannot read.
_NO_ZIP = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError)


def apply_patch(
    old: Path, patch: Path, out: Path, *, public: Path | None = None, allow_older: bool = False
) -> Verified:
    """Make the new release in `out`, which must not be there yet.

    public: a key that must have signed it. Raises ReleaseError, and then leaves nothing; StoreError, ToolMissing.
    """
    zstandard()
    if os.path.lexists(out):
        raise ReleaseError(f"{out} is there already", "give a new folder with --out")
    refuse_within(out, old)
    before = whole_release(old)
    draft = out.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with _opened(patch) as archive:
            head = _head(archive, patch)
            if head.old_sums_sha256 != before.sums_sha256:
                raise ReleaseError(
                    f"{patch} is for another release: for {head.old_version or 'one without a version'}, SHA256SUMS "
                    f"{head.old_sums_sha256[:12]}; {old} is {before.version or 'without a version'}, "
                    f"{before.sums_sha256[:12]}"
                )
            if public:
                _check_signature(archive, head, old, patch, public)
            draft.mkdir(parents=True)
            for file in head.files:
                with (draft / file.path).open("xb") as written:
                    _make(archive, file, old, written, patch)
        after = _checked(draft, head, patch, public)
        if after.sums_sha256 != before.sums_sha256 and not allow_older:
            check_order(before.version, after.version, patch)
        sync_tree(draft)
        draft.rename(out)
    except OSError as error:
        raise explain_os_error(error, out.parent, "--out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return after


def _check_signature(archive: zipfile.ZipFile, head: PatchHead, old: Path, patch: Path, public: Path) -> None:
    """Before anything is written: what the patch makes is signed by the key's owner. Raises ReleaseError."""
    key = load_public(public)
    made = {}
    for file in head.files:
        if file.path in (SUMS, SIGNATURE):
            most = SIGNATURE_BYTES if file.path == SIGNATURE else MOST_BYTES
            if file.size_bytes > most:
                raise ReleaseError(f"what {patch} makes is no release: {file.path} has {file.size_bytes:,} bytes")
            into = io.BytesIO()
            _make(archive, file, old, into, patch)
            made[file.path] = into.getvalue()
    if SIGNATURE not in made or not check_signature(key, made[SIGNATURE], made.get(SUMS, b"")):
        words = "is not" if SIGNATURE in made else "has no signature, and so is not"
        raise ReleaseError(f"what {patch} makes {words} signed by key {key_id(key)}", "nothing was written")


def _checked(draft: Path, head: PatchHead, patch: Path, public: Path | None) -> Verified:
    after = verify_release(draft, public)
    for fault in after.faults:
        raise ReleaseError(f"what {patch} makes is no release: {fault.path}: {fault.words}")
    if after.sums_sha256 != head.new_sums_sha256:
        raise ReleaseError(f"what {patch} makes is another release than it says")
    return after


@contextlib.contextmanager
def _opened(patch: Path) -> Iterator[zipfile.ZipFile]:
    try:
        refuse_special(patch)
        archive = zipfile.ZipFile(patch)
    except FileNotFoundError:
        raise ReleaseError(f"there is no file {patch}") from None
    except OSError as error:
        raise StoreError(f"cannot read {patch}: {error.strerror or error}") from None
    except _NO_ZIP as error:
        raise ReleaseError(f"{patch} is no patch, or not all of one: {error}") from None
    with archive:
        try:
            yield archive
        except _NO_ZIP as error:
            raise ReleaseError(f"{patch} is no patch, or not all of one: {error}") from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ReleaseError(f"{patch} is no patch: a part of it lies nowhere") from None


def _head(archive: zipfile.ZipFile, patch: Path) -> PatchHead:
    """What the patch says; every name in it is one that a release may have."""
    try:
        content = _member(archive, PatchHead.FILE).read(_MOST_HEAD_BYTES)
        head = files.from_json(json.loads(content), PatchHead)
    except (KeyError, ValueError, RecursionError) as error:
        raise ReleaseError(f"{patch} is no patch: {PatchHead.FILE}: {error}") from None
    names = [file.path for file in head.files]
    faults = [f"{name!r} {name_fault(name)}" for name in names if name not in (SUMS, SIGNATURE) and name_fault(name)]
    faults += [f"{file.old!r} {name_fault(file.old)}" for file in head.files if file.old and name_fault(file.old)]
    faults += [f"{file.path!r} has {file.size_bytes:,} bytes" for file in head.files if not _fits(file)]
    if len(set(names)) < len(names) or len(names) > _MOST_FILES:
        faults.append("a file is there twice, or there are too many")
    if faults:
        raise ReleaseError(f"{patch} must not be applied: {faults[0]}")
    return head


def _fits(file: PatchedFile) -> bool:
    return 0 <= file.size_bytes <= MOST_FILE_BYTES


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Raises KeyError where there is none, ValueError for one that is packed: what it unpacks to has no bound."""
    about = archive.getinfo(name)
    if about.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {name} is compressed by ZIP, and a patch's are stored")
    return archive.open(about)


def _make(archive: zipfile.ZipFile, file: PatchedFile, old: Path, into: IO[bytes], patch: Path) -> None:
    """Write one file of the new release. Raises ReleaseError where it does not become what the patch says."""
    try:
        if file.how == "copy":
            content = read_regular(old / file.old, MOST_FILE_BYTES)
            found = _write(io.BytesIO(content), into, file.size_bytes)
        else:
            against = read_regular(old / file.old, MOST_FILE_BYTES) if file.how == "patch" else b""
            with _member(archive, file.member) as frame:
                found = _write(_decoder(frame, against, file), into, file.size_bytes)
    except UnfitFile as error:
        raise ReleaseError(f"{old / file.old}: {error.words}") from None
    except (KeyError, ValueError, zstandard().ZstdError) as error:
        raise ReleaseError(f"{patch} does not make {file.path}: {error}") from None
    if found != file.sha256:
        raise ReleaseError(f"{patch} does not make {file.path}: wanted SHA-256 {file.sha256}, found {found}")


def _decoder(frame: IO[bytes], against: bytes, file: PatchedFile) -> IO[bytes]:
    """The frame's content as a stream. A frame that wants a larger window than the file can need is refused."""
    most = 1 << window_log(len(against), file.size_bytes)
    more = {"dict_data": dictionary(against)} if against else {}
    stream: IO[bytes] = zstandard().ZstdDecompressor(max_window_size=most, **more).stream_reader(frame)
    return stream


def _write(stream: IO[bytes], into: IO[bytes], size_bytes: int) -> str:
    """All of a stream into another; gives its SHA-256. Raises ValueError for one of another size."""
    digest, left = hashlib.sha256(), size_bytes
    while chunk := stream.read(_CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"wanted {size_bytes:,} bytes, found more")
        digest.update(chunk)
        into.write(chunk)
    if left:
        raise ValueError(f"wanted {size_bytes:,} bytes, found {size_bytes - left:,}")
    return digest.hexdigest()
