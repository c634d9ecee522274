"""Images and masks of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.data.base import Place, SplitName
from pocketforge.data.image_files import PassedOver, scan_folder, subfolders
from pocketforge.data.official_splits import choose_parts, some
from pocketforge.errors import ModelError

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "inputs", "input", "photos")
_MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "segmentationclass", "segmentation", "gt",
    "targets", "target", "seg",
)  # fmt: skip
# What may stand behind an image's name in its mask's.
_BEHIND = ("", "_mask", "_masks", "_seg", "_label", "_labels", "_gt", "_segmentation")
_NAMES = ("classes.txt", "labels.txt")
_HINT = "masks wants DIR/images/NAME.jpg and DIR/masks/NAME.png, or both in each of DIR/train, DIR/val"


@dataclass(frozen=True, slots=True)
class MaskSet:
    """A folder of images and masks as it is read.

    Attributes:
        folder: Which holds all of it.
        pairs: (split, image, mask) of each, sorted by the image's path.
        names: The file of class names; None where there is none.
        notes: What was taken as what, for the user.
    """

    folder: Path
    pairs: tuple[tuple[SplitName | None, Path, Path], ...]
    names: Path | None
    notes: tuple[str, ...]


def list_pairs(place: Place) -> MaskSet:
    """Raises ModelError where it is not clear which folders are what, and for an image without a mask."""
    folder = place.path
    top = _named(folder)
    notes: list[str] = []
    parts: dict[str, tuple[Path, Path]] = {}
    images, masks = _one(top, _IMAGES), _one(top, _MASKS)
    if images and masks:
        below, loose = subfolders(images, PassedOver())
        both = [each.name for each in below if (masks / each.name).is_dir()]
        if loose or not both:
            parts["."] = (images, masks)
        else:
            parts = {name: (images / name, masks / name) for name in both}
    else:
        for inner in top.values():
            own = _named(inner)
            pair = _one(own, _IMAGES), _one(own, _MASKS)
            if pair[0] and pair[1]:
                parts[inner.name] = (pair[0], pair[1])
    if not parts:
        held = ", ".join(some([each.name + "/" for each in top.values()])) or "no folders"
        raise ModelError(f"data.source: {folder} has no folder of images and one of masks; it has {held}", _HINT)
    chosen = choose_parts([*parts], place.split_folders, str(folder), notes)
    passed = PassedOver()
    pairs = [(split, image, mask) for name, split in chosen.items() for image, mask in _pairs(*parts[name], passed)]
    if not pairs:
        raise ModelError(f"data.source: {folder} has no images in {', '.join(some([*chosen]))}", _HINT)
    if passed.note():
        notes.append(passed.note())
    names = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    return MaskSet(folder, tuple(sorted(pairs, key=lambda pair: str(pair[1]))), names, tuple(notes))


def _named(folder: Path) -> dict[str, Path]:
    """Folders in a folder, by their names in small letters."""
    below, _ = subfolders(folder, PassedOver())
    return {each.name.lower(): each for each in below}


def _one(folders: Mapping[str, Path], words: tuple[str, ...]) -> Path | None:
    found = [folders[word] for word in words if word in folders]
    if len(found) > 1:
        raise ModelError(
            f"data.source: {found[0].parent} has {found[0].name}/ and {found[1].name}/: which of them is read?", _HINT
        )
    return found[0] if found else None


def _pairs(images: Path, masks: Path, passed: PassedOver) -> list[tuple[Path, Path]]:
    by_image = _by_name(images, passed)
    by_mask = _by_name(masks, passed)
    # One form for all, so that `1_mask` is never the mask of two.
    behind = max(_BEHIND, key=lambda end: sum(f"{name}{end}" in by_mask for name in by_image))
    found = []
    for name, image in by_image.items():
        mask = by_mask.pop(f"{name}{behind}", None)
        if mask is None:
            raise ModelError(f"data.source: the image {image} has no mask {name}{behind}.png in {masks}", _HINT)
        found.append((image, mask))
    if by_mask:
        passed.add("masks without an image", len(by_mask))
    return found


def _by_name(folder: Path, passed: PassedOver) -> dict[str, Path]:
    """Path without its ending → file."""
    found: dict[str, Path] = {}
    for path in scan_folder(folder, passed).all_images:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ModelError(
                f"data.source: {found[name]} and {path} have one name", "one image a name, one mask a name"
            )
        found[name] = path
    return found
