"""Annotation files in COCO's JSON, and the images that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pocketforge.data.annotated.coco_entries import HINT, CocoFile
from pocketforge.data.base import Place, SplitName
from pocketforge.data.files import existing_file, inside
from pocketforge.data.official_splits import choose_parts, some
from pocketforge.errors import ModelError

# Of several kinds of files the first that there is.
_KINDS = ("instances", "person_keypoints", "")
_OTHERS = ("captions", "panoptic", "stuff", "image_info")
# Files that are named by their folder: Roboflow's and others.
_PLAIN = frozenset({"annotations", "annotation", "coco", "labels", "instances", "data"})


@dataclass(frozen=True, slots=True)
class Annotated:
    """One annotation file.

    Attributes:
        path: Its own.
        split: Of all its images.
        folder: The data set's, which holds all images.
        word: What its name speaks of, `train2017`: folders of images are called so too.
    """

    path: Path
    split: SplitName | None
    folder: Path
    word: str


def annotation_files(place: Place, notes: list[str]) -> list[Annotated]:
    """The files that are read, each with its split. Raises ModelError where none is, or it is not clear which are."""
    path = place.path
    if not path.is_dir():
        file = existing_file(path, "COCO")
        folder = file.parent.parent if file.parent.name.lower() in ("annotations", "labels") else file.parent
        return [Annotated(file, None, folder, _word(file)[1])]
    found = sorted(file for pattern in ("*.json", "*/*.json") for file in path.glob(pattern) if file.is_file())
    by_name = {file.relative_to(path).as_posix(): file for file in found if not file.name.startswith(".")}
    if not by_name:
        raise ModelError(f"data.source: {path} holds no COCO JSON file, in it or in its folders", HINT)
    told = place.split_folders
    if told is not None and any(told.values()):
        chosen = choose_parts([*by_name], told, str(path), notes)
    else:
        words = {name: _word(file) for name, file in by_name.items()}
        kind = next((kind for kind in _KINDS if kind in [of for of, _ in words.values()]), None)
        names = [name for name, (of, _) in words.items() if of == kind]
        chosen = choose_parts(names, told, str(path), notes, {name: words[name][1] for name in names})
        if not names or (len(chosen) > 1 and set(chosen.values()) == {None}):
            raise ModelError(
                f"data.source: which of these of {path} are read: {', '.join(some([*by_name]))}?",
                'write in the recipe\'s [data]: split_folders = { train = ["…"], eval = ["…"] } with these names, or '
                "name one file: coco:DIR/FILE.json",
            )
        left = [name for name in by_name if name not in names]
        if left:
            notes.append(f"annotation files of {path} that are left out: {', '.join(some(left))}")
    return [Annotated(by_name[name], split, path, _word(by_name[name])[1]) for name, split in chosen.items()]


def _word(file: Path) -> tuple[str, str]:
    """What kind of annotations a file's name says, and the rest of it: (instances, train2017)."""
    stem = file.stem.removesuffix(".coco").strip("_-.")
    for kind in (*_KINDS[:-1], *_OTHERS):
        if stem.startswith(f"{kind}_"):
            return kind, stem.removeprefix(f"{kind}_")
    return "", file.parent.name if stem.lower() in _PLAIN else stem


class ImageEntry(NamedTuple):
    """What a file says of an image: its place there, and values as they stand."""

    path: Path
    file_name: str
    id: Any
    height: Any
    width: Any


def images_of(each: Annotated, content: CocoFile) -> list[ImageEntry]:
    """Its images, in the file's order. Raises ModelError for one that is not there."""
    names, said = [], []
    for number, entry in enumerate(content.entries("images")):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise ModelError(f"data.source: {each.path}: images[{number}] has no file_name", HINT)
        names.append(name)
        said.append((entry.get("id"), entry.get("height"), entry.get("width")))
    if not names:
        raise ModelError(f"data.source: {each.path} has no images: its list is empty", HINT)
    roots = _roots(each)
    root = next((root for root in roots if inside(each.folder, str(root / names[0]), str(each.path)).is_file()), None)
    if root is None:
        raise ModelError(
            f"data.source: {each.path} names the image {names[0]!r}, which is not there",
            f"looked in {', '.join(map(str, roots))}",
        )
    images = []
    for number, (name, values) in enumerate(zip(names, said, strict=True)):
        where = f"data.source: {each.path}: images[{number}]"
        path = inside(each.folder, str(root / name), where)
        if not path.is_file():
            raise ModelError(f"{where} names {name!r}, and there is no file {path}", "all images lie as the first does")
        images.append(ImageEntry(path, name, *values))
    return images


def _roots(each: Annotated) -> list[Path]:
    """Where its images may lie, likeliest first."""
    folder, beside = each.folder, each.path.parent
    named = [folder / each.word, folder / "images" / each.word] if each.word else []
    return [*dict.fromkeys([*named, beside, beside / "images", folder / "images", folder])]
