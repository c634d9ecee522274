"""Which files a data source reads: stdlib only, so that a build's keys cost no import of numpy."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from pocketforge.data.base import SplitName
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import Resolve
from pocketforge.model.files import module_files

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
# The folder that is evaluated is the first of these that exists; the others are then left out, not trained on.
EVAL_FOLDERS = ("eval", "test", "val")
SPLIT_FOLDERS = frozenset({"train", *EVAL_FOLDERS})


def parse_source(source: str) -> tuple[str, str]:
    """A source's kind (a key of SOURCES) and its place: `npz:a.npz` → ("npz", "a.npz")."""
    kind, _, place = source.partition(":")
    if kind in ("digits", "cifar10", "imagefolder", "npz"):
        return kind, place
    return "function", source


def fingerprint_files(source: str, resolve: Resolve) -> list[Path]:
    """The files whose content the source reads, sorted. Files that a user's function opens by itself are not known.

    Raises ModelError when the data is not there, ToolMissing when the library that brings it is not.
    """
    kind, place = parse_source(source)
    if kind == "digits":
        return [digits_file()]
    if kind == "cifar10":
        return sorted([*(path for path, _ in cifar10_batches(resolve(place))), *cifar10_meta(resolve(place))])
    if kind == "imagefolder":
        return sorted(path for _, _, path in list_images(resolve(place))[1])
    if kind == "npz":
        return [existing_file(resolve(place), "npz")]
    return module_files(existing_file(resolve(split_function(place)[0]), "the data function's"))


def existing_file(path: Path, what: str) -> Path:
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
        train = [folder / f"data_batch_{number}{suffix}" for number in range(1, 6)]
        batches: list[tuple[Path, SplitName]] = [(path, "train") for path in train if path.is_file()]
        test = folder / f"test_batch{suffix}"
        if test.is_file():
            batches.append((test, "eval"))
        if batches:
            return batches
    raise ModelError(f"data.source: {folder} holds no CIFAR-10 batch files named as in the official archives")


def cifar10_meta(folder: Path) -> list[Path]:
    """The file with the class names (batches.meta or batches.meta.txt), if it is there."""
    folder = _cifar10_folder(folder)
    return [path for path in (folder / "batches.meta", folder / "batches.meta.txt") if path.is_file()]


def list_images(folder: Path) -> tuple[tuple[str, ...], list[tuple[SplitName | None, str, Path]]]:
    """Class names (sorted), and (official split, class name, file) of each image, sorted by path.

    Either `folder/class/…` or `folder/{train,eval|test|val}/class/…`. Raises ModelError when there are no class
    folders, or one without images.
    """
    if not folder.is_dir():
        raise ModelError(f"data.source: there is no folder {folder}", "paths are relative to the recipe's folder")
    top = _subfolders(folder)
    if not top:
        raise ModelError(
            f"data.source: {folder} has no class folders",
            "imagefolder wants one folder a class: DIR/cat/1.jpg, DIR/dog/2.jpg (or DIR/train/cat/…, DIR/val/cat/…)",
        )
    roots: list[tuple[SplitName | None, Path]] = [(None, folder)]
    # Classes may be called "train" too: those hold images directly, a split holds class folders.
    if all(path.name in SPLIT_FOLDERS and not _holds_images(path) for path in top):
        evaluated = next((name for name in EVAL_FOLDERS if (folder / name).is_dir()), None)
        roots = [("train", folder / "train")] if (folder / "train").is_dir() else []
        if evaluated:
            roots.append(("eval", folder / evaluated))
    classes = tuple(sorted({path.name for _, root in roots for path in _subfolders(root)}))
    images: list[tuple[SplitName | None, str, Path]] = []
    for split, root in roots:
        for class_folder in _subfolders(root):
            for current, subfolders, names in os.walk(class_folder):
                subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
                images.extend((split, class_folder.name, Path(current, name)) for name in names if _is_image(name))
    # An empty folder would still number the classes after it, and no file's content would tell.
    empty = sorted({*classes} - {name for _, name, _ in images})
    empty += [f"{root.name}/" for split, root in roots if split and split not in {part for part, _, _ in images}]
    if empty or not images:
        raise ModelError(
            f"data.source: {folder} has folders without images: {', '.join(empty[:8])}",
            f"take them out; images are known by their names: {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return classes, sorted(images, key=lambda image: image[2].as_posix())


def _subfolders(folder: Path) -> list[Path]:
    # Hidden folders and __MACOSX come from archives and notebooks; they are not classes.
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _holds_images(folder: Path) -> bool:
    return any(_is_image(path.name) for path in folder.iterdir() if path.is_file())
