"""What lies in a Pascal VOC folder: images, annotations, lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.data.base import Place, SplitName
from pocketforge.data.image_files import PassedOver, scan_folder
from pocketforge.data.official_splits import choose_parts, some
from pocketforge.data.split_words import role_of
from pocketforge.errors import ModelError
from pocketforge.files import read_whole

_HINT = "Pascal VOC has Annotations/NAME.xml, JPEGImages/NAME.jpg and lists of names in ImageSets/Main/"
_WITH_MASKS = "Segmentation"


@dataclass(frozen=True, slots=True)
class VocImage:
    """One image.

    Attributes:
        name: As lists have it.
        split: Its official one.
        image: Its file.
        xml: Its annotations.
        mask: Of its classes; None where masks are not asked for.
    """

    name: str
    split: SplitName | None
    image: Path
    xml: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class VocSet:
    """A VOC data set as it is read.

    Attributes:
        folder: Which holds all of it.
        images: Sorted by name.
        lists: The files of ImageSets that were read.
        notes: What was taken as what, for the user.
    """

    folder: Path
    images: tuple[VocImage, ...]
    lists: tuple[Path, ...]
    notes: tuple[str, ...]


def list_voc(place: Place) -> VocSet:
    """Raises ModelError where it is not clear what is read, or something that a list names is not there."""
    folder = _set_folder(place.path)
    inner = folder / "Annotations"
    annotations = inner if inner.is_dir() else folder
    xml = {path.stem: path for path in sorted(annotations.glob("*.xml")) if path.is_file()}
    if not xml:
        raise ModelError(f"data.source: {annotations} holds no .xml files", _HINT)
    images = _images(folder, annotations)
    notes: list[str] = []
    lists = _lists(folder)
    chosen = _chosen(lists, place, folder, notes)
    if not chosen:
        named: dict[str, SplitName | None] = dict.fromkeys(xml)
    else:
        named = {}
        for part, split in chosen.items():
            for name in _names(lists[part]):
                if named.setdefault(name, split) != split:
                    raise ModelError(f"data.source: {name!r} is in two splits of {folder}", "an image is in one split")
    masks = bool(chosen) and all(part.startswith(f"{_WITH_MASKS}/") for part in chosen)
    found = []
    for name in sorted(named):
        what = {"annotations": xml.get(name), "image": images.get(name)}
        if masks:
            path = folder / "SegmentationClass" / f"{name}.png"
            what["mask"] = path if path.is_file() else None
        missing = [word for word, path in what.items() if path is None]
        if missing:
            raise ModelError(f"data.source: {folder}: {name!r} has no {missing[0]}", _HINT)
        found.append(VocImage(name, named[name], *_known(what["image"], what["annotations"]), what.get("mask")))
    if not found:
        raise ModelError(f"data.source: the lists of {folder} name no images: {', '.join(chosen)}", _HINT)
    return VocSet(folder, tuple(found), tuple(lists[part] for part in chosen), tuple(notes))


def _known(image: Path | None, xml: Path | None) -> tuple[Path, Path]:
    assert image is not None and xml is not None
    return image, xml


def _set_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(f"data.source: there is no folder {folder}", "paths are relative to the recipe's folder")
    candidates = [folder, *sorted(folder.glob("VOC*/")), *sorted(folder.glob("VOCdevkit/VOC*/"))]
    found = [each for each in candidates if (each / "Annotations").is_dir()]
    if len(found) > 1:
        raise ModelError(
            f"data.source: {folder} holds several sets: {', '.join(each.name for each in found)}", "name one of them"
        )
    return found[0] if found else folder


def _images(folder: Path, annotations: Path) -> dict[str, Path]:
    """Name → its image."""
    where = next((folder / name for name in ("JPEGImages", "images") if (folder / name).is_dir()), annotations)
    by_name: dict[str, Path] = {}
    for path in scan_folder(where, PassedOver()).images:
        if path.stem in by_name:
            raise ModelError(f"data.source: {by_name[path.stem].name} and {path.name} of {where} have one name")
        by_name[path.stem] = path
    return by_name


def _lists(folder: Path) -> dict[str, Path]:
    """As `Main/train`: those of whole splits; VOC's others are of one class each."""
    sets = folder / "ImageSets"
    listed = {path.relative_to(sets).with_suffix("").as_posix(): path for path in sorted(sets.glob("*/*.txt"))}
    listed |= {path.stem: path for path in sorted(sets.glob("*.txt"))}
    return {name: path for name, path in listed.items() if role_of(name.rpartition("/")[2]) is not None}


def _chosen(lists: Mapping[str, Path], place: Place, folder: Path, notes: list[str]) -> dict[str, SplitName | None]:
    told = place.split_folders
    if told is not None:
        return choose_parts([*lists], told, f"{folder}/ImageSets", notes) if any(told.values()) else {}
    main = [name for name in lists if name.startswith("Main/")] or [name for name in lists if "/" not in name]
    words = {name: name.rpartition("/")[2] for name in main}
    roles = {role_of(word) for word in words.values()}
    both = [name for name in main if words[name] in ("train", "trainval")]
    if len(both) > 1:
        # trainval holds val: it is for those who evaluate on test.
        unused = "train" if roles & {"test", "eval"} else "trainval"
        main = [name for name in main if words[name] != unused]
    if not main:
        return {}
    return choose_parts(main, None, f"{folder}/ImageSets", notes, {name: words[name] for name in main})


def _names(path: Path) -> list[str]:
    names = []
    for number, line in enumerate(read_whole(path).decode("utf-8", "surrogateescape").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if "/" in words[0] or "\0" in words[0]:
            raise ModelError(f"data.source: {path} line {number} is no name: {words[0]!r}", _HINT)
        names.append(words[0])
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ModelError(f"data.source: {path} names twice: {', '.join(some(twice))}")
    return names
