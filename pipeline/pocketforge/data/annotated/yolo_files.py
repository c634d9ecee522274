"""A YOLO data set's images and their files of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.data.base import Place, SplitName
from pocketforge.data.files import existing_file, inside
from pocketforge.data.image_files import PassedOver, image_formats, scan_folder, subfolders
from pocketforge.data.official_splits import choose_parts
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import read_whole
from pocketforge.version import install

_MOST_BYTES = 2**20
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_PARTS = ("train", "val", "test")
_HINT = (
    "a data.yaml says where images are (train, val) and what classes are called (names); labels/ lies beside images/"
)


@dataclass(frozen=True, slots=True)
class YoloSet:
    """A YOLO data set as it is read.

    Attributes:
        folder: Which holds all of it.
        names: Of classes, by class number; () where nothing says them.
        points: How many keypoints an object has, and how many numbers each (2 or 3); (0, 0) without any.
        images: (split, image, its labels' file, which need not be there) of each, sorted by path.
        others: Further files that were read: data.yaml, classes.txt, lists of images.
        notes: What was taken as what, for the user.
    """

    folder: Path
    names: tuple[str, ...]
    points: tuple[int, int]
    images: tuple[tuple[SplitName | None, Path, Path], ...]
    others: tuple[Path, ...]
    notes: tuple[str, ...]


def list_yolo(place: Place) -> YoloSet:
    """Raises ModelError where it is not clear what is read, or an image that is named is not there."""
    path = place.path
    folder = path if path.is_dir() else existing_file(path, "YOLO").parent
    described = _described(path)
    content = _read_yaml(described) if described else {}
    notes: list[str] = []
    others = [described] if described else []
    names = _names(content, described, folder, others)
    parts = _parts(content, described, folder, notes)
    chosen = choose_parts([*parts], place.split_folders, str(folder), notes) if parts else {}
    told = place.split_folders
    if told is not None and any(told.values()):
        # Folders of images that the recipe names, whatever a data.yaml calls them.
        parts = {name: [name] for split in ("train", "eval") for name in told[split]} | parts
        chosen = choose_parts([*parts], told, str(folder), notes[:0])
    base = _base(content, folder, notes)
    passed = PassedOver()
    images: dict[Path, SplitName | None] = {}
    for name, split in chosen.items():
        for written in parts[name]:
            for image in _images(written, base, folder, passed, others):
                if images.setdefault(image, split) != split:
                    raise ModelError(f"data.source: {image} is in two splits of {folder}", "an image is in one split")
    if not images:
        raise ModelError(f"data.source: {folder} has no images of a YOLO data set", _HINT)
    if not any(_labels_file(image, folder).is_file() for image in images):
        first = min(images)
        raise ModelError(
            f"data.source: no image of {folder} has a file of labels: {first} would have {_labels_file(first, folder)}",
            _HINT,
        )
    if passed.note():
        notes.append(passed.note())
    ordered = tuple((images[image], image, _labels_file(image, folder)) for image in sorted(images))
    return YoloSet(folder, names, _points(content, described), ordered, tuple(others), tuple(notes))


def _described(path: Path) -> Path | None:
    """The data.yaml, where there is one."""
    if not path.is_dir():
        return path
    return next((path / name for name in _NAMES if (path / name).is_file()), None)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ToolMissing(f"{path} needs PyYAML", install("detection")) from error
    data = read_whole(path)
    if len(data) > _MOST_BYTES:
        raise ModelError(f"data.source: {path} has {len(data):,} bytes: wanted a data.yaml of at most {_MOST_BYTES:,}")
    try:
        # A few that name each other are more than fits into memory once they are written out.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(data)):
            raise ValueError("it has aliases (*name)")
        content = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"data.source: {path} is not read as YAML: {' '.join(str(error).split())}", _HINT) from error
    if not isinstance(content, dict):
        raise ModelError(f"data.source: {path} holds no table, but a {type(content).__name__}", _HINT)
    return content


def _names(content: Mapping[str, Any], path: Path | None, folder: Path, others: list[Path]) -> tuple[str, ...]:
    found = content.get("names")
    if found is None:
        if path is not None:
            raise ModelError(f"data.source: {path} has no names", _HINT)
        listed = folder / "classes.txt"
        if not listed.is_file():
            return ()
        from pocketforge.data.labels import read_labels

        others.append(listed)
        return read_labels(listed, "data.source")
    if isinstance(found, dict):
        if sorted(found, key=str) != sorted(range(len(found)), key=str):
            raise ModelError(f"data.source: {path}: names must be numbered from 0 on, found {list(found)[:8]}", _HINT)
        found = [found[number] for number in range(len(found))]
    if not isinstance(found, list) or not found or not all(isinstance(name, str | int | float) for name in found):
        raise ModelError(f"data.source: {path}: names must be a list of class names, found {str(found)[:80]}", _HINT)
    count = content.get("nc", len(found))
    if count != len(found):
        raise ModelError(f"data.source: {path}: nc is {count}, and names has {len(found)}", _HINT)
    return tuple(map(str, found))


def _points(content: Mapping[str, Any], path: Path | None) -> tuple[int, int]:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0, 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or type(shape[0]) is not int
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise ModelError(f"data.source: {path}: kpt_shape must be [keypoints, 2 or 3], found {shape}", _HINT)
    return shape[0], shape[1]


def _parts(content: Mapping[str, Any], path: Path | None, folder: Path, notes: list[str]) -> dict[str, list[str]]:
    """Part → its folders and lists of images."""
    if path is not None:
        parts = {}
        for part in _PARTS:
            written = content.get(part)
            listed = [written] if isinstance(written, str) else written
            if listed and isinstance(listed, list) and all(isinstance(each, str) for each in listed):
                parts[part] = listed
            elif listed:
                raise ModelError(
                    f"data.source: {path}: {part} must be folders of images, found {str(written)[:80]}", _HINT
                )
        if not parts:
            raise ModelError(f"data.source: {path} names no images: it has neither train nor val", _HINT)
        return parts
    images = folder / "images"
    if not images.is_dir():
        # train/images, as some exports have it
        return {each.name: [f"{each.name}/images"] for each in sorted(folder.iterdir()) if (each / "images").is_dir()}
    below, loose = subfolders(images, PassedOver())
    if below and not loose:
        return {each.name: [f"images/{each.name}"] for each in below}
    return {"images": ["images"]}


def _base(content: Mapping[str, Any], folder: Path, notes: list[str]) -> Path:
    """What the paths of a data.yaml are relative to."""
    written = content.get("path")
    if not isinstance(written, str) or not written:
        return folder
    for base in (folder / written, folder / Path(written).name):
        if base.is_dir() and base.resolve().is_relative_to(folder.resolve()):
            return base
    notes.append(f"path {written!r} of the data.yaml is not in {folder}: its own folder is taken")
    return folder


def _images(written: str, base: Path, folder: Path, passed: PassedOver, others: list[Path]) -> list[Path]:
    where = f"data.source: {folder}: its data.yaml"
    path = Path(base / written)
    if not path.exists() and written.startswith("../"):
        path = base / written.removeprefix("../")  # as Roboflow writes it
    path = inside(folder, str(path), where)
    if path.is_dir():
        return list(scan_folder(path, passed).all_images)
    if path.suffix != ".txt" or not path.is_file():
        raise ModelError(f"{where} names {written!r}, and there is no folder {path}", _HINT)
    others.append(path)
    images = []
    for number, line in enumerate(read_whole(path).decode("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip():
            continue
        image = inside(folder, str(path.parent / line.strip()), f"data.source: {path} line {number}")
        if not image.is_file() or image.suffix.lower() not in image_formats():
            raise ModelError(f"data.source: {path} line {number}: there is no image {image}")
        images.append(image)
    return images


def _labels_file(image: Path, folder: Path) -> Path:
    """…/images/a/1.jpg → …/labels/a/1.txt; beside the image where it is in no folder images/."""
    parts = list(image.relative_to(folder).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index("images")
        parts[last] = "labels"
    return folder.joinpath(*parts).with_suffix(".txt")
