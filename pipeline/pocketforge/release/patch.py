"""Patches: all of a new release, in as few bytes as an app that has an old one needs.

A patch is a ZIP file of stored members: patch.json, and a Zstandard frame for each file that the old release does not
hold. A frame is either of the file alone or against an old file, as `zstd --patch-from=OLD` writes it, so that any
build of zstd can apply one. Zstandard and not bsdiff: as small on our files, several times faster, and its decoder
reads the old file and a window, where bsdiff's maker takes seventeen times the old file (docs/releases.md).
"""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pocketforge.errors import ReleaseError, ToolMissing
from pocketforge.files import explain_os_error, json_text, sync
from pocketforge.outcomes import files
from pocketforge.recipe.shipped_names import SIGNATURE, SUMS
from pocketforge.release.manifest import goes_back
from pocketforge.release.reading import UnfitFile, read_regular
from pocketforge.release.sums import MOST_BYTES, read_sums
from pocketforge.release.verify import hash_of, whole_release

MOST_FILE_BYTES = 2**30  # of a file: it is held in memory, and so is the old one
_LEVEL = 19
_LEAST_WINDOW_LOG, _MOST_WINDOW_LOG = 10, 31
# Of each member: no clock makes another patch of the same releases.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class PatchedFile:
    """One file of the new release.

    Attributes:
        path: Its name there.
        sha256: Of its bytes.
        size_bytes: How many they are.
        how: "copy" is a file of the old release; "patch" a frame against one; "new" a frame alone.
        old: The old release's file; empty of a new one.
        member: The frame's name in the patch; empty of a copy.
    """

    path: str
    sha256: str
    size_bytes: int
    how: Literal["copy", "patch", "new"]
    old: str = ""
    member: str = ""


@dataclass(frozen=True, slots=True)
class PatchHead:
    """patch.json.

    Attributes:
        old_sums_sha256: Of the old release's SHA256SUMS: the patch fits no other.
        new_sums_sha256: Of the new one's.
        old_version: Of the old release; None where it has none.
        new_version: Of the new one.
        files: All of the new release, SHA256SUMS and its signature too.
        patch_version: Of this file's keys.
    """

    FILE: ClassVar[str] = "patch.json"

    old_sums_sha256: str
    new_sums_sha256: str
    old_version: str | None
    new_version: str | None
    files: tuple[PatchedFile, ...]
    patch_version: Literal[1] = 1


def zstandard() -> Any:
    """The library. Raises ToolMissing."""
    try:
        import zstandard as library
    except ImportError:
        raise ToolMissing(
            "patches need the package zstandard, which is not installed", "pip install zstandard"
        ) from None
    return library


def write_patch(old: Path, new: Path, patch: Path, *, allow_older: bool = False) -> PatchHead:
    """Write a patch from one release to another, in one rename. The same releases give the same bytes.

    Raises ReleaseError for a release that is not whole, and for one that goes back unless `allow_older`; StoreError,
    ToolMissing.
    """
    zstandard()
    before, after = whole_release(old), whole_release(new)
    if before.sums_sha256 == after.sums_sha256 and _signature(old) == _signature(new):
        raise ReleaseError(f"{old} and {new} are the same release: there is nothing to patch")
    if before.sums_sha256 != after.sums_sha256 and not allow_older:
        check_order(before.version, after.version, new)
    draft = patch.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with zipfile.ZipFile(draft, "x", zipfile.ZIP_STORED) as archive:
            maker = _Maker(old, new, _listed(old, before.sums_sha256), archive)
            more = (SUMS, SIGNATURE) if _signature(new) else (SUMS,)
            told = tuple(maker.tell(name) for name in (*sorted(_listed(new, after.sums_sha256)), *more))
            head = PatchHead(before.sums_sha256, after.sums_sha256, before.version, after.version, told)
            maker.add(PatchHead.FILE, json_text(files.to_json(head)).encode())
        sync(draft)
        draft.replace(patch)
    except OSError as error:
        raise explain_os_error(error, patch.parent, "--output") from error
    finally:
        draft.unlink(missing_ok=True)
    return head


class _Maker:
    """Writes frames into a patch, one file of the new release at a time."""

    def __init__(self, old: Path, new: Path, old_hashes: Mapping[str, str], archive: zipfile.ZipFile) -> None:
        self._old, self._new, self._old_hashes, self._archive = old, new, old_hashes, archive
        self._frames = 0

    def add(self, member: str, content: bytes) -> None:
        about = zipfile.ZipInfo(member, _EPOCH)
        about.create_system, about.external_attr = 3, 0o644 << 16  # whatever system it is made on
        self._archive.writestr(about, content)

    def tell(self, name: str) -> PatchedFile:
        """How one file comes about. Of both frames, alone and against its namesake, the smaller one is taken."""
        content = _content(self._new / name)
        sha256, size = hash_of(content), len(content)
        same = next((path for path, digest in self._old_hashes.items() if digest == sha256), None)
        if same is not None:
            return PatchedFile(name, sha256, size, "copy", same)
        alone = compressed(content)
        against = compressed(content, _content(self._old / name)) if name in self._old_hashes else alone
        member = f"{self._frames}.zst"
        self._frames += 1
        self.add(member, min(against, alone, key=len))
        if len(against) < len(alone):
            return PatchedFile(name, sha256, size, "patch", name, member)
        return PatchedFile(name, sha256, size, "new", "", member)


def check_order(before: str | None, after: str | None, new: Path | str) -> None:
    """Raises ReleaseError for a release that an app with version `before` must not take."""
    if fault := goes_back(before, after):
        raise ReleaseError(
            f"{new}: {fault}",
            "a roll-back is the old content under a new version (pocketforge docs releases), or --allow-older",
        )


def _signature(folder: Path) -> bytes:
    try:
        return read_regular(folder / SIGNATURE, MOST_BYTES)
    except UnfitFile:
        return b""


def _listed(folder: Path, sums_sha256: str) -> dict[str, str]:
    content = _content(folder / SUMS)
    if hash_of(content) != sums_sha256:
        raise ReleaseError(f"{folder / SUMS} changed while the patch was made")
    return read_sums(content)[0]


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, MOST_FILE_BYTES)
    except UnfitFile as error:
        raise ReleaseError(f"{path}: {error.words}") from None
    except OSError as error:
        raise ReleaseError(f"cannot read {path}: {error.strerror}") from None


def window_log(old_bytes: int, new_bytes: int) -> int:
    """Of a window from which all of the old file can be seen, at the new one's end too."""
    return min(max((old_bytes + new_bytes).bit_length(), _LEAST_WINDOW_LOG), _MOST_WINDOW_LOG)


def compressed(content: bytes, old: bytes | None = None) -> bytes:
    """A Zstandard frame of the content, against an old file where there is one."""
    library = zstandard()
    compressor = library.ZstdCompressor(level=_LEVEL, write_checksum=True)
    if old:
        parameters = library.ZstdCompressionParameters.from_level(
            _LEVEL, window_log=window_log(len(old), len(content)), enable_ldm=True, write_checksum=True
        )
        compressor = library.ZstdCompressor(dict_data=dictionary(old), compression_params=parameters)
    frame: bytes = compressor.compress(content)
    return frame


def dictionary(old: bytes) -> Any:
    """An old file as what a frame refers to."""
    library = zstandard()
    return library.ZstdCompressionDict(old, dict_type=library.DICT_TYPE_RAWCONTENT)
