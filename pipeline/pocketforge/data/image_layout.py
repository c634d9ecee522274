"""An image folder's classes and images, with their official splits, and in words what was taken as what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.data.base import SplitName
from pocketforge.data.image_files import IMAGES, FileKind, ImageTree, PassedOver, scan_folder, subfolders
from pocketforge.data.image_splits import Parts, find_splits, name_some, tell_splits
from pocketforge.errors import ModelError


@dataclass(frozen=True, slots=True)
class ImageSet:
    """An image folder as it is read.

    Attributes:
        classes: Names, sorted: a class's number is its place here.
        images: (official split, class name, file) of each, sorted by path.
        notes: What was taken as what, and what was passed over, for the user.
    """

    classes: tuple[str, ...]
    images: tuple[tuple[SplitName | None, str, Path], ...]
    notes: tuple[str, ...]


def list_images(
    folder: Path, split_folders: Mapping[str, Sequence[str]] | None = None, kind: FileKind = IMAGES
) -> ImageSet:
    """Either `folder/class/…`, or `folder/split/class/…` where the splits' names say so and their insides agree.

    split_folders: what the recipe says: {"train": names, "eval": names}, both empty where all folders are classes.
    kind: of the files: images, or sound.
    Raises ModelError when there are no class folders, one without images, or when it can be read in two ways.
    """
    passed = PassedOver()
    class_folders, loose = subfolders(folder, passed, kind)
    trees = [scan_folder(path, passed, kind) for path in class_folders]
    if not trees:
        raise ModelError(
            f"data.source: {folder} has no class folders{_besides(passed, loose, kind)}",
            f"{kind.source} wants one folder a class: DIR/cat/{kind.example}, DIR/dog/{kind.example.replace('1', '2')} "
            "(or DIR/train/cat/…, DIR/val/cat/…)",
        )
    if loose:
        passed.add(f"{kind.plural} outside the class folders", len(loose))
    notes: list[str] = []
    if split_folders is not None and any(split_folders.values()):
        parts = _written(folder, trees, split_folders, passed, notes, kind)
    elif split_folders is not None:
        parts = []
    else:
        parts = find_splits(folder, trees, notes)
    images: list[tuple[SplitName | None, str, Path]] = []
    if parts:
        classes = {name for _, tree in parts for name in tree.inside}
        images = [(split, name, path) for split, tree in parts for name in tree.inside for path in tree.inside[name]]
    else:
        classes = {tree.name for tree in trees}
        images = [(None, tree.name, path) for tree in trees for path in tree.all_images]
    _check(folder, classes, images, parts, passed, kind)
    # Names that are not UTF-8 can be printed by nobody.
    printable = [note.encode("utf-8", "backslashreplace").decode() for note in (*notes, passed.note()) if note]
    ordered = tuple(sorted(images, key=lambda image: str(image[2])))
    return ImageSet(tuple(sorted(classes)), ordered, tuple(printable))


def _written(
    folder: Path,
    trees: Sequence[ImageTree],
    split_folders: Mapping[str, Sequence[str]],
    passed: PassedOver,
    notes: list[str],
    kind: FileKind,
) -> Parts:
    """The splits that the recipe names."""
    known = {tree.name: tree for tree in trees}
    parts: Parts = []
    for split in ("train", "eval"):
        for name in split_folders[split]:
            if not (folder / name).is_dir():
                raise ModelError(
                    f"data.split_folders.{split}: there is no folder {folder / name}",
                    f"{folder} has: {', '.join(name_some(known))}",
                )
            tree = known.get(name) or scan_folder(folder / name, passed, kind)
            if tree.images:
                raise ModelError(
                    f"data.split_folders.{split}: {folder / name} holds {kind.plural} that are in no class folder: "
                    f"{', '.join(path.name for path in tree.images[:3])}",
                    f"a split holds a folder a class: {name}/cat/{kind.example}",
                )
            parts.append(("eval" if split == "eval" else "train", tree))
    used = {name.split("/")[0] for names in split_folders.values() for name in names}
    tell_splits(parts, [tree.name for tree in trees if tree.name not in used], notes)
    return parts


def _check(
    folder: Path,
    classes: set[str],
    images: Sequence[tuple[SplitName | None, str, Path]],
    parts: Parts,
    passed: PassedOver,
    kind: FileKind,
) -> None:
    # An empty folder would still number the classes after it, and no file's content would tell.
    empty = sorted(classes - {name for _, name, _ in images})
    empty += [f"{tree.name}/" for _, tree in parts if not tree.all_images]
    if empty or not images:
        endings = ", ".join(sorted(kind.endings()))
        raise ModelError(
            f"data.source: {folder} has folders without {kind.plural}: {', '.join(name_some(empty))}"
            f"{_besides(passed, [], kind)}",
            f"take them out; {kind.plural} are known by their names: {endings}",
        )
    for name in classes:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise ModelError(
                f"data.source: {folder} has a class folder whose name is not UTF-8: {name!r}",
                "rename it: class names are written into the files that an app reads",
            ) from None


def _besides(passed: PassedOver, loose: Sequence[Path], kind: FileKind) -> str:
    note = passed.note()
    images = f"; {len(loose)} {kind.plural} lie right in it" if loose else ""
    return images + (f" ({note})" if note else "")
