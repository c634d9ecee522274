"""Which of a data set's splits a folder's name speaks of, in the words and spellings that are about."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

Role = Literal["train", "eval", "test", "val"]

# The folder that is evaluated is the first of these that there is; the others are then left out, not trained on.
EVALUATED: tuple[Role, ...] = ("eval", "test", "val")

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn", "tr", "trainval", "learn", "learning"), "train"),
    **dict.fromkeys(("eval", "evaluation", "evaluate"), "eval"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "vali", "dev", "devel", "development"), "val"),
}
# Words that may stand beside a split's: train_set, images_train, training-data.
_BESIDE = frozenset({
    "set", "sets", "data", "dataset", "datasets", "split", "splits", "subset", "part", "folder", "dir", "all", "full",
    "final", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics", "sample",
    "samples", "file", "files", "example", "examples", "class", "classes", "the", "x", "jpg", "jpeg", "png",
})  # fmt: skip
_GLUED = re.compile(r"(?:set|data|dataset|images?|imgs?|samples?|split)$")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")


def words_of(name: str) -> list[str]:
    """A name's words in small letters, without numbers: `ILSVRC2012_img_train` → ilsvrc, img, train."""
    words = [word.casefold() for word in _WORDS.findall(name)]
    joined = "".join(words)
    # "hold-out", "HeldOut", "TRAINval": one word in several pieces.
    return [joined] if joined in _ROLES else words


def role_of(name: str, beside: Collection[str] = ()) -> Role | None:
    """The split that a folder's name speaks of and of nothing else; `beside`: words that its neighbours have too."""
    roles: set[Role] = set()
    for word in words_of(name):
        role = _ROLES.get(word) or _ROLES.get(_GLUED.sub("", word))
        if role is not None:
            roles.add(role)
        elif word not in _BESIDE and word not in beside:
            return None
    return roles.pop() if len(roles) == 1 else None


def is_filler(name: str) -> bool:
    """A name that says nothing of what is in it: `images`, `jpg_files`."""
    return all(word in _BESIDE and len(word) > 1 for word in words_of(name))


def roles_of(names: Sequence[str]) -> dict[str, Role]:
    """Those of some neighbouring folders that are named as splits. A word that all have is the data set's name."""
    words = [set(words_of(name)) for name in names]
    common = set.intersection(*words) if len(words) > 1 else set()
    roles = {name: role_of(name, common - _ROLES.keys()) for name in names}
    return {name: role for name, role in roles.items() if role is not None}
