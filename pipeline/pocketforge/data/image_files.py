"""What lies in a folder of classes: their folders and files, and how many files are passed over, and why."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.errors import ModelError, ToolMissing

# Known by name and not decoded: Pillow only identifies them, or has a program or another system's library draw them.
_NOT_DECODED = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "IPTC"})
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_NAMED_REASONS = 8


@dataclass(frozen=True, slots=True)
class FileKind:
    """What the files of a folder are.

    Attributes:
        source: The word of SOURCES that reads such folders.
        word: One of them, in words.
        plural: Several.
        endings: Gives the endings that they are known by, in small letters, with the dot.
        example: A name, for messages.
    """

    source: str
    word: str
    plural: str
    endings: Callable[[], Collection[str]]
    example: str


@dataclass(frozen=True, slots=True)
class ImageTree:
    """A folder right under the source.

    Attributes:
        name: Of the folder.
        images: Those that lie directly in it (or files of another kind).
        inside: Of each folder in it → all images below that, at any depth; it may have none.
        kind: What the files are.
    """

    name: str
    images: tuple[Path, ...]
    inside: Mapping[str, tuple[Path, ...]]
    kind: FileKind

    @property
    def all_images(self) -> tuple[Path, ...]:
        return (*self.images, *(path for paths in self.inside.values() for path in paths))

    @property
    def classes(self) -> set[str]:
        """Folders in it that hold images."""
        return {name for name, paths in self.inside.items() if paths}


@dataclass(slots=True)
class PassedOver:
    """Files that are not read.

    Attributes:
        reasons: Why, in words → how many files.
    """

    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, count: int = 1) -> None:
        self.reasons[reason] += count

    def note(self) -> str:
        """One line, bounded; "" when nothing was passed over."""
        if not self.reasons:
            return ""
        first = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_REASONS]
        more = sum(self.reasons.values()) - sum(count for _, count in first)
        reasons = ", ".join(f"{count} {reason}" for reason, count in first) + (
            f", {more} of other kinds" if more else ""
        )
        total = sum(self.reasons.values())
        return f"{total} {'file' if total == 1 else 'files'} passed over: {reasons}"


@functools.cache
def image_formats() -> Mapping[str, str]:
    """Ending (small letters, with its dot) → Pillow's name of the format, for all that the installed Pillow decodes.

    Raises ToolMissing without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolMissing("data source imagefolder needs Pillow", "pip install pillow") from error
    known = Image.registered_extensions()
    # Pillow opens .mpo (phones' stereo and motion pictures) by its JPEG reader.
    readable = {*Image.OPEN, *(("MPO",) if "JPEG" in Image.OPEN else ())} - _NOT_DECODED
    return {ending: name for ending, name in known.items() if name in readable}


IMAGES = FileKind("imagefolder", "image", "images", image_formats, "1.jpg")


def scan_folder(folder: Path, passed: PassedOver, kind: FileKind = IMAGES) -> ImageTree:
    """Raises ModelError for a folder that cannot be read, and for an image that is no regular file."""
    images, folders = _entries(folder, passed, kind)
    inside: dict[str, tuple[Path, ...]] = {}
    for path in folders:
        # macOS writes accents apart from their letters, others together: it is one name.
        name = unicodedata.normalize("NFC", path.name)
        inside[name] = (*inside.get(name, ()), *_below(path, passed, kind))
    return ImageTree(unicodedata.normalize("NFC", folder.name), tuple(images), inside, kind)


def subfolders(folder: Path, passed: PassedOver, kind: FileKind = IMAGES) -> tuple[list[Path], list[Path]]:
    """The folders right under `folder`, sorted, and the images that lie beside them."""
    if not folder.is_dir():
        raise ModelError(f"data.source: there is no folder {folder}", "paths are relative to the recipe's folder")
    images, folders = _entries(folder, passed, kind)
    return folders, images


def _below(folder: Path, passed: PassedOver, kind: FileKind) -> list[Path]:
    """All images in a folder and those below it. Links are followed, but no folder is read twice: one to a folder
    above itself has no end, and a few that name each other have more ways through them than there is time."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            stat = current.stat()
        except OSError as error:
            raise ModelError(f"data.source: {current} cannot be read: {error.strerror or error}") from error
        place = (stat.st_dev, stat.st_ino)
        if place in seen:
            raise ModelError(
                f"data.source: {current} is a link to a folder above itself, or to one that is read already",
                "take it out of the folder",
            )
        seen.add(place)
        images, folders = _entries(current, passed, kind)
        found += images
        waiting += folders
    return found


def _entries(folder: Path, passed: PassedOver, kind: FileKind) -> tuple[list[Path], list[Path]]:
    """Images and folders of one folder, each sorted."""
    images: list[str] = []
    folders: list[str] = []
    known = kind.endings()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # Hidden folders and __MACOSX come from archives and notebooks; they are not classes.
                if entry.name.startswith((".", "__")):
                    passed.add("hidden folders" if entry.is_dir() else "hidden")
                elif entry.is_dir():
                    folders.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in known:
                    if not entry.is_file():
                        raise ModelError(
                            f"data.source: the {kind.word} {entry.path} is no regular file (a broken link, a pipe, a "
                            "device)",
                            "take it out of the folder",
                        )
                    images.append(entry.path)
                else:
                    passed.add(_why(entry.name))
    except OSError as error:
        raise ModelError(
            f"data.source: {error.filename or folder} cannot be read: {error.strerror or error}"
        ) from error
    # Sorted as texts: a large set's paths are compared in a tenth of the time.
    return [Path(path) for path in sorted(images)], [Path(path) for path in sorted(folders)]


def _why(name: str) -> str:
    """Why a file is passed over: it is litter, or has an ending that is no image's."""
    if name.lower() in _LITTER:
        return "Thumbs.db and the like"
    ending = os.path.splitext(name)[1].lower()
    return ascii(ending)[1:-1][:16] if ending else "without an ending"
