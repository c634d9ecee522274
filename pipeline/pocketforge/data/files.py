"""Which files a data source reads: stdlib only, so that a build's keys cost no import of numpy."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.data.base import SplitName
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import Resolve, is_special
from pocketforge.model.files import module_files

_CIFAR10_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def parse_source(source: str) -> tuple[str, str]:
    """A source's kind (a key of SOURCES) and its place: `npz:a.npz` → ("npz", "a.npz")."""
    kind, _, place = source.partition(":")
    if kind in ("digits", "cifar10", "imagefolder", "npz"):
        return kind, place
    return "function", source


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files whose content a source reads, sorted. notes: what was taken as what, and what was passed over.

    layout: a digest of what their places say besides (split and class of each); "" where they say nothing.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    layout: str = ""


def look_at(source: str, resolve: Resolve, split_folders: Mapping[str, Sequence[str]] | None = None) -> SourceFiles:
    """Files that a user's function opens by itself are not known.

    Raises ModelError when the data is not there, ToolMissing when the library that brings it is not.
    """
    kind, place = parse_source(source)
    if kind == "digits":
        return SourceFiles((digits_file(),))
    if kind == "cifar10":
        batches = [path for path, _ in cifar10_batches(resolve(place))]
        missing = sorted(set(_CIFAR10_BATCHES) - {path.name.removesuffix(".bin") for path in batches})
        notes = (f"{resolve(place)} lacks {', '.join(missing)} of the official set",) if missing else ()
        return SourceFiles(tuple(sorted([*batches, *cifar10_meta(resolve(place))])), notes)
    if kind == "imagefolder":
        from pocketforge.data.image_layout import list_images

        found = list_images(resolve(place), split_folders)
        inside = len(str(resolve(place)))  # where the folder lies says nothing
        told = "".join(f"{split}\0{name}\0{str(path)[inside:]}\0" for split, name, path in found.images)
        layout = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
        return SourceFiles(tuple(path for _, _, path in found.images), found.notes, layout)
    if kind == "npz":
        return SourceFiles((existing_file(resolve(place), "npz"),))
    return SourceFiles(tuple(module_files(existing_file(resolve(split_function(place)[0]), "the data function's"))))


def fingerprint_files(source: str, resolve: Resolve) -> list[Path]:
    """The files of `look_at` alone."""
    return list(look_at(source, resolve).paths)


def source_folder(source: str, resolve: Resolve) -> Path | None:
    """The folder whose listing decides which files the source reads; None where nothing but its own text does."""
    kind, place = parse_source(source)
    return resolve(place) if kind in ("imagefolder", "cifar10") else None


def existing_file(path: Path, what: str) -> Path:
    if is_special(path):
        raise ModelError(f"data.source: {path} is no regular file (a pipe, a socket or a device)", "name a file")
    if not path.is_file():
        raise ModelError(f"data.source: there is no {what} file {path}", "paths are relative to the recipe's folder")
    return path


def split_function(place: str) -> tuple[str, str]:
    """`folder/module.py:function` → its file and the function's name."""
    file, _, name = place.rpartition(":")
    return file, name


def digits_file() -> Path:
    """scikit-learn's own copy of the UCI digits, found without importing scikit-learn (1.5 s)."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ToolMissing("data source digits needs scikit-learn", "pip install scikit-learn")
    return existing_file(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "digits")


def _cifar10_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(f"data.source: there is no folder {folder}", "unpack the CIFAR-10 archive there")
    # The archives unpack into a folder of their own: take either it or the one that it was unpacked in.
    for candidate in (folder, folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"):
        if any(candidate.glob("data_batch_*")) or any(candidate.glob("test_batch*")):
            return candidate
    raise ModelError(
        f"data.source: {folder} holds no CIFAR-10 batches (data_batch_1 … or data_batch_1.bin …)",
        "give the folder of cifar-10-python.tar.gz or cifar-10-binary.tar.gz, unpacked",
    )


def cifar10_batches(folder: Path) -> list[tuple[Path, SplitName]]:
    """The batch files of one official format, train batches first; python batches win where both lie there."""
    folder = _cifar10_folder(folder)
    for suffix in ("", ".bin"):
        found = [(folder / f"{name}{suffix}", name) for name in _CIFAR10_BATCHES]
        batches: list[tuple[Path, SplitName]] = [
            (existing_file(path, "CIFAR-10"), "eval" if name == "test_batch" else "train")
            for path, name in found
            if path.exists()
        ]
        if batches:
            return batches
    raise ModelError(f"data.source: {folder} holds no CIFAR-10 batch files named as in the official archives")


def cifar10_meta(folder: Path) -> list[Path]:
    """The file with the class names (batches.meta or batches.meta.txt), if it is there."""
    folder = _cifar10_folder(folder)
    named = (folder / "batches.meta", folder / "batches.meta.txt")
    return [existing_file(path, "CIFAR-10") for path in named if path.exists()]
