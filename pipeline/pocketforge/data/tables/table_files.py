"""Which files of a folder are its tables, and of which split each is."""

from __future__ import annotations

from pathlib import Path

from pocketforge.data.base import Place, SplitName
from pocketforge.data.files import existing_file
from pocketforge.data.official_splits import choose_parts, some
from pocketforge.errors import ModelError


def table_files(
    place: Place, endings: tuple[str, ...], what: str, notes: list[str], *, shards: bool = False
) -> list[tuple[SplitName | None, Path]]:
    """The file that the recipe names, or those of a folder; sorted. shards: a table may be many files, in folders too.

    Raises ModelError for a folder without any, and for one with several whose names say no split.
    """
    path = place.path
    if not path.is_dir():
        return [(None, existing_file(path, what))]
    patterns = ("*", "*/*") if shards else ("*",)
    found = {
        file.relative_to(path).as_posix(): file
        for pattern in patterns
        for file in sorted(path.glob(pattern))
        if file.name.lower().endswith(endings) and not file.name.startswith(".") and file.is_file()
    }
    if not found:
        raise ModelError(
            f"data.source: {path} holds no {what} files ({', '.join(endings)})", "name a file or its folder"
        )
    # `train-00000-of-00004.parquet` and `val/0.tar`: the words are of the file or of its folder.
    words = {name: name.rpartition("/")[0] or file.name.partition(".")[0] for name, file in found.items()}
    chosen = choose_parts([*found], _folders(place, words), str(path), notes, words)
    if len(chosen) > 1 and set(chosen.values()) == {None} and place.split_folders is None and not shards:
        raise ModelError(
            f"data.source: {path} has several {what} files, whose names say no split: {', '.join(some([*found]))}",
            f'name one, or write in the recipe\'s [data]: split_folders = {{ train = ["{next(iter(found))}"] }}',
        )
    return [(split, found[name]) for name, split in chosen.items()]


def _folders(place: Place, words: dict[str, str]) -> dict[str, list[str]] | None:
    """What the recipe says, with the files of the folders that it names."""
    told = place.split_folders
    if told is None:
        return None
    return {
        split: [
            name for each in names for name in ([f for f, word in words.items() if f == each or word == each] or [each])
        ]
        for split, names in told.items()
    }
