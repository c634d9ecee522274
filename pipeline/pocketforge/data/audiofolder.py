"""`audiofolder:DIR`: one folder a class, or DIR/{train,val|test|…}/class/…; read with soundfile."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pocketforge.data.base import Place, Source, SourceFiles, SplitName
from pocketforge.data.image_files import FileKind
from pocketforge.data.image_layout import ImageSet, list_images
from pocketforge.data.official_splits import choose_parts
from pocketforge.errors import ModelError
from pocketforge.files import read_whole

# What libsndfile reads in every build of it. MP3 is none: its decoders differ in where a sample begins.
ENDINGS = frozenset({".wav", ".flac", ".ogg", ".oga", ".aiff", ".aif", ".au"})
SOUND = FileKind("audiofolder", "sound file", "sound files", lambda: ENDINGS, "1.wav")
# As Speech Commands has them: paths of the files of each split; the rest is trained on.
LISTS = ("validation_list.txt", "testing_list.txt")
# Of Speech Commands: minutes of noise to mix with, no class.
_NOISE = "_background_noise_"


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a folder without classes or sound files."""
    listed, lists = list_sounds(place)
    inside = len(str(place.path))  # where the folder lies says nothing
    places = "".join(f"{split}\0{name}\0{str(path)[inside:]}\0" for split, name, path in listed.images)
    layout = hashlib.sha256(places.encode("utf-8", "surrogateescape")).hexdigest()
    return SourceFiles(tuple(sorted([*(path for _, _, path in listed.images), *lists])), listed.notes, layout)


def open_place(place: Place) -> Source:
    """Raises ModelError for a folder without classes or sound files; ToolMissing without soundfile when one is read."""
    from pocketforge.data.audio_samples import AudioFolder

    return AudioFolder(place.path, list_sounds(place)[0])


def list_sounds(place: Place) -> tuple[ImageSet, tuple[Path, ...]]:
    """The classes and files with their splits, and the lists that say these."""
    folder = place.path
    lists = tuple(folder / name for name in LISTS if (folder / name).is_file())
    if not lists or place.split_folders is not None:
        return list_images(folder, place.split_folders, SOUND), ()
    listed = list_images(folder, {"train": (), "eval": ()}, SOUND)
    named = {path.stem: _named(folder, path) for path in lists}
    notes: list[str] = []
    chosen = choose_parts([*named], None, f"the lists of {folder}", notes, {name: name.split("_")[0] for name in named})
    left = set().union(*(named[name] for name in named if name not in chosen))
    evaluated = set().union(*(named[name] for name in chosen))
    images: list[tuple[SplitName | None, str, Path]] = []
    for _, label, path in listed.images:
        if path not in left and label != _NOISE:
            images.append(("eval" if path in evaluated else "train", label, path))
    notes.append("what is in no list is trained on")
    if _NOISE in listed.classes:
        notes.append(f"{_NOISE}/ is passed over")
    classes = tuple(label for label in listed.classes if label != _NOISE)
    return ImageSet(classes, tuple(images), (*listed.notes, *notes)), lists


def _named(folder: Path, path: Path) -> set[Path]:
    found: set[Path] = set()
    for number, line in enumerate(read_whole(path).decode("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip():
            continue
        named = folder / line.strip()
        if "\0" in line or ".." in named.parts or not named.is_file():
            raise ModelError(f"data.source: {path} line {number} names {line.strip()!r}, which is not in {folder}")
        found.add(named)
    return found
