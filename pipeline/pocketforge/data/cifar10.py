"""`cifar10:DIR`: the official python batches or the official binary batches; `test_batch` is the eval split."""

from __future__ import annotations

from pathlib import Path

from pocketforge.data.base import Place, Source, SourceFiles, SplitName
from pocketforge.data.files import existing_file
from pocketforge.errors import ModelError

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def files(place: Place) -> SourceFiles:
    """Raises ModelError when the folder holds no batches."""
    batches = [path for path, _ in batch_files(place.path)]
    missing = sorted(set(BATCHES) - {path.name.removesuffix(".bin") for path in batches})
    notes = (f"{place.path} lacks {', '.join(missing)} of the official set",) if missing else ()
    return SourceFiles(tuple(sorted([*batches, *meta_files(place.path)])), notes)


def open_place(place: Place) -> Source:
    """Raises ModelError when the folder holds no batches or a batch is damaged."""
    from pocketforge.data.cifar10_samples import Cifar10

    return Cifar10(batch_files(place.path), meta_files(place.path))


def _set_folder(folder: Path) -> Path:
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


def batch_files(folder: Path) -> list[tuple[Path, SplitName]]:
    """The batch files of one official format, train batches first; python batches win where both lie there."""
    folder = _set_folder(folder)
    for suffix in ("", ".bin"):
        named = [(folder / f"{name}{suffix}", name) for name in BATCHES]
        batches: list[tuple[Path, SplitName]] = [
            (existing_file(path, "CIFAR-10"), "eval" if name == "test_batch" else "train")
            for path, name in named
            if path.exists()
        ]
        if batches:
            return batches
    raise ModelError(f"data.source: {folder} holds no CIFAR-10 batch files named as in the official archives")


def meta_files(folder: Path) -> list[Path]:
    """The file with the class names (batches.meta or batches.meta.txt), if it is there."""
    folder = _set_folder(folder)
    named = (folder / "batches.meta", folder / "batches.meta.txt")
    return [existing_file(path, "CIFAR-10") for path in named if path.exists()]
