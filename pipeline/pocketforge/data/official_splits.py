"""Which parts of a source (files, lists, shards, words of a column) are trained on, and which are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge.data.base import SplitName
from pocketforge.data.split_words import EVALUATED, Role, roles_of
from pocketforge.errors import ModelError

_SOME = 8


def choose_parts(
    names: Sequence[str],
    told: Mapping[str, Sequence[str]] | None,
    where: str,
    notes: list[str],
    spoken: Mapping[str, str] | None = None,
) -> dict[str, SplitName | None]:
    """Part → its split, for the parts that are used; None of all where neither the recipe nor their names say one.

    told: what the recipe says (`split_folders`). where: of errors and notes: what has these parts. spoken: the words
    that speak of a split where they are not the whole name. Where some names are a split's word and others none, what
    the others are nobody knows: they are left out, which the notes say. Raises ModelError for parts that are not there.
    """
    if told is not None and any(told.values()):
        return _told(names, told, where, notes)
    if told is not None:
        return dict.fromkeys(names)
    words = spoken or {name: name for name in names}
    by_word = roles_of(sorted(set(words.values())))
    roles: dict[str, Role] = {name: by_word[words[name]] for name in names if words[name] in by_word}
    if not roles:
        return dict.fromkeys(names)
    evaluated = next((role for role in EVALUATED if role in roles.values()), None)
    chosen: dict[str, SplitName | None] = {}
    for name in names:
        role = roles.get(name)
        if role == "train":
            chosen[name] = "train"
        elif role is not None and role == evaluated:
            chosen[name] = "eval"
    if "train" not in chosen.values():
        # Nothing to calibrate with: one part of a set, as many have only val of COCO.
        notes.append(f"{where} has no part to train on: {', '.join(some([*chosen]))} is split by eval_fraction")
        return dict.fromkeys(chosen)
    _tell(names, chosen, where, notes)
    return chosen


def _told(
    names: Sequence[str], told: Mapping[str, Sequence[str]], where: str, notes: list[str]
) -> dict[str, SplitName | None]:
    chosen: dict[str, SplitName | None] = {}
    for split in ("train", "eval"):
        for name in told[split]:
            if name not in names:
                has = ", ".join(map(repr, some(names))) or "nothing"
                raise ModelError(f"data.split_folders.{split}: {where} has no {name!r}", f"it has {has}")
            # Without anything to evaluate a share of these is: then they are no official split.
            chosen[name] = ("eval" if split == "eval" else "train") if told["eval"] else None
    _tell(names, chosen, where, notes)
    return chosen


def _tell(names: Sequence[str], chosen: Mapping[str, SplitName | None], where: str, notes: list[str]) -> None:
    groups = {
        "trained on": [name for name in names if chosen.get(name) == "train"],
        "evaluated": [name for name in names if chosen.get(name) == "eval"],
        "left out": [name for name in names if name not in chosen],
    }
    told = [
        f"{', '.join(some(found))} {'is' if len(found) == 1 else 'are'} {what}"
        for what, found in groups.items()
        if found
    ]
    notes.append(f"splits of {where}: {'; '.join(told)}")


def some(names: Sequence[str], limit: int = _SOME) -> list[str]:
    """The first few, and an ellipsis where there are more."""
    return [*names[:limit], *(["…"] if len(names) > limit else [])]
