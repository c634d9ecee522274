"""Which source reads a file or a folder that is named without saying so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pocketforge.data.files import look_at
from pocketforge.errors import PocketforgeError, RecipeError
from pocketforge.files import resolver
from pocketforge.registries import SOURCES

_SHOWN = 6
# What is found by more than folders of images is no folder of classes: `images/` and `masks/` with the same names.
_MORE_THAN = {"masks": "imagefolder"}


def guess_source(path: Path, target: str = "") -> str:
    """The source as a recipe has it, `imagefolder:photos`. target: only of kinds that can have it.

    A folder is of the kind whose module finds its files there, and of no kind where several do: what can be read in two
    ways is not guessed. A file is of the kind that its ending names. Raises RecipeError with what was seen, and with
    what each kind misses.
    """
    refused: dict[str, str] = {}
    taken = {}
    for kind in _kinds(path):
        if target and target not in (SOURCES[kind].targets or {target}):
            refused[kind] = f"has no {target}"
            continue
        try:
            look_at(f"{kind}:{path}", resolver(None))
        except PocketforgeError as error:
            refused[kind] = error.message
        else:
            taken[kind] = f"{kind}:{path}"
    for kind, other in _MORE_THAN.items():
        if kind in taken:
            taken.pop(other, None)
    if len(taken) == 1:
        return next(iter(taken.values()))
    if taken:
        ways = list(taken.values())
        raise RecipeError(
            f"{path} can be read as {' and as '.join(ways)}", f"say which: --data {' or --data '.join(ways)}"
        )
    say = "say what it is (--data KIND:PLACE, or a function of yours: --data data.py:load)"
    raise RecipeError(
        f"no data source reads {path}: {_seen(path)}",
        "; ".join([say, "what each kind wants: pocketforge docs data", *SOURCES.broken()]),
        [f"{kind}: {message.removeprefix('data.source: ')}" for kind, message in refused.items()],
    )


def _kinds(path: Path) -> Iterator[str]:
    """Those that may read it."""
    for kind, info in SOURCES.usable().items():
        of_folder = path.is_dir() and info.place in ("DIR", "PATH")
        if of_folder or (path.is_file() and path.suffix == f".{kind}"):
            yield kind


def _seen(path: Path) -> str:
    """What is there, in words."""
    if not path.is_dir():
        return "it is a file" if path.exists() else "it is not there"
    inside = sorted(path.iterdir())
    folders = [each.name for each in inside if each.is_dir()]
    endings = Counter(each.suffix or "without ending" for each in inside if not each.is_dir())
    words = []
    if folders:
        more = ", …" if len(folders) > _SHOWN else ""
        words.append(f"{_number(len(folders), 'folder')} ({', '.join(folders[:_SHOWN])}{more})")
    if endings:
        kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(_SHOWN))
        words.append(f"{_number(endings.total(), 'file')} ({kinds})")
    return f"it holds {' and '.join(words)}" if words else "it is empty"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
