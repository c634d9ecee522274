"""Which columns of a table are what: as the recipe says, else by their names where these leave no doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pocketforge.data.official_splits import some
from pocketforge.errors import ModelError
from pocketforge.recipe.columns import Columns, kind_of_target
from pocketforge.recipe.names import suggest

# Columns that are called so are what they are called, where the recipe says nothing.
INPUTS = (
    "path", "file_name", "filename", "file", "filepath", "image_path", "audio_path", "image", "img", "audio", "text",
    "sentence",
)  # fmt: skip
LABELS = ("label", "class", "class_name", "category", "target", "y")
SPLITS = ("split", "subset")
# As INPUTS, of a tar's parts.
_ENDINGS = ("jpg", "jpeg", "png", "webp", "wav", "flac", "ogg", "npy", "txt")
_CLASS = "cls"
_HINT = (
    'write in the recipe\'s [data]: columns = { input = ["…"], target = { label = "…" } }; of numbers features = ["…"] '
    'in place of input, and target = { value = "…" }: pocketforge docs data'
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Columns that are in the table.

    Attributes:
        inputs: One for each input.
        features: Those of the vector that is one more input; () where there is none.
        targets: (name, kind, column) of each target.
        id: What samples are known by; empty for their number.
        split: Says the split; empty where none does.
        slices: By which results are told apart.
    """

    inputs: tuple[str, ...]
    features: tuple[str, ...]
    targets: tuple[tuple[str, str, str], ...]
    id: str
    split: str
    slices: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        named = (*self.inputs, *self.features, *(column for _, _, column in self.targets), self.id, self.split)
        return tuple(dict.fromkeys(name for name in (*named, *self.slices) if name))


def choose_columns(names: Sequence[str], asked: Columns | None, where: str, notes: list[str]) -> Chosen:
    """Raises ModelError for a column that is not there, and where names leave a doubt."""
    asked = asked or Columns()
    features = _features(asked, names, where)
    inputs, targets, split = asked.inputs, dict(asked.targets), asked.split
    guessed = []
    if not inputs and not features:
        inputs = (_guess(names, (*INPUTS, *_ENDINGS), "input", where),)
        guessed.append(f"column {inputs[0]!r} is the input")
    if not targets:
        column = _guess(names, (*LABELS, _CLASS), "target", where)
        targets = {"label": column}
        guessed.append(f"{column!r} the label")
    if not split and asked == Columns():
        found = [name for name in names if name.lower() in SPLITS]
        split = found[0] if len(found) == 1 else ""
        guessed += [f"{split!r} the split"] if split else []
    if guessed:
        notes.append(f"{where}: {', '.join(guessed)}")
    chosen = Chosen(
        inputs,
        features,
        tuple((name, kind_of_target(name), column) for name, column in sorted(targets.items())),
        asked.id,
        split,
        asked.slices,
    )
    for name in chosen.all:
        if name not in names:
            raise ModelError(
                f"data.source: {where} has no column {name!r}{suggest(name, names)}",
                f"its columns: {', '.join(some(list(names), 20))}",
            )
    return chosen


def _guess(names: Sequence[str], words: Sequence[str], key: str, where: str) -> str:
    found = [name for name in names if name.lower() in words]
    if len(found) != 1:
        what = (
            f"{len(found)} of them may be ({', '.join(some(found))})" if found else "none of them says so by its name"
        )
        raise ModelError(
            f"data.source: which column of {where} is for {key}? {what}: {', '.join(some(list(names), 20))}", _HINT
        )
    return found[0]


def _features(asked: Columns, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Raises ModelError for a column that two of them match, and for a pattern that matches a target, its answer."""
    whose: dict[str, str] = {}
    for pattern in asked.features:
        for name in _matching(pattern, names, where):
            if name in whose:
                raise ModelError(
                    f"data.columns: features {whose[name]!r} and {pattern!r} both match column {name!r} of {where}",
                    "each column stands in the vector once: name the columns, or make the patterns narrower",
                )
            if name != pattern and name in asked.targets.values():
                raise ModelError(
                    f"data.columns: features {pattern!r} matches column {name!r} of {where}, which is a target",
                    "the model would be given the answer: name the columns, or make the pattern narrower",
                )
            whose[name] = pattern
    return tuple(whose)


def _matching(pattern: str, names: Sequence[str], where: str) -> list[str]:
    found = [name for name in names if name == pattern] or [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ModelError(f"data.source: {where} has no column {pattern!r} for features{suggest(pattern, names)}")
    return found
