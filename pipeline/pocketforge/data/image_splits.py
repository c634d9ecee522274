"""Is a folder under the source a class or a split? Its name says what it may be, what lies in it decides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pocketforge.data.base import SplitName
from pocketforge.data.image_files import ImageTree
from pocketforge.data.split_words import EVALUATED, Role, is_filler, roles_of
from pocketforge.errors import ModelError

Parts = list[tuple[SplitName, ImageTree]]

_CLASSES_INSTEAD = "split_folders = {} if every folder there is a class"


def find_splits(folder: Path, trees: Sequence[ImageTree], notes: list[str]) -> Parts:
    """The splits that names and insides speak of; [] when the folders are classes."""
    full = [tree for tree in trees if tree.all_images]
    roles = roles_of([tree.name for tree in full])
    splits = [tree for tree in full if tree.name in roles]
    others = [tree for tree in full if tree.name not in roles]
    deep = [tree for tree in splits if tree.classes and not tree.images]
    if not deep:
        _refuse_hidden_splits(folder, full)
        _refuse_mixed(folder, splits, roles)
        if len(splits) > 1 and len(splits) == len(full):
            notes.append(
                f"{_slashed(splits)} are taken as classes: {full[0].kind.plural} lie right in them, not in class "
                "folders"
            )
        return []
    if others and len(deep) == 1 and not _alike(deep[0], others) and all(t.classes and not t.images for t in full):
        return []  # vehicles: car/, bus/ and train/, each with folders of its own inside
    shallow = [tree for tree in splits if tree not in deep]
    if shallow or others:
        odd = [*shallow, *others]
        _ambiguous(
            folder,
            f"{_slashed(deep)} {_is(deep)} named as a split and holds class folders "
            f"({', '.join(name_some(deep[0].classes))}), {_slashed(odd)} {_is(odd)} not like that",
            {roles[tree.name]: tree for tree in deep},
        )
    return _by_role(folder, deep, roles, [tree for tree in trees if not tree.all_images], notes)


def _by_role(
    folder: Path, splits: Sequence[ImageTree], roles: Mapping[str, Role], empty: Sequence[ImageTree], notes: list[str]
) -> Parts:
    """Which of several split folders is trained on, and which evaluated."""
    by_role: dict[Role, ImageTree] = {}
    for tree in splits:
        role = roles[tree.name]
        if role in by_role:
            _ambiguous(folder, f"both {by_role[role].name}/ and {tree.name}/ are named as the {role} split", by_role)
        by_role[role] = tree
    without = [*roles_of([tree.name for tree in empty])]
    if without:
        raise ModelError(
            f"data.source: {folder} has folders without {empty[0].kind.plural}: {without[0]}/", "take them out"
        )
    chosen: dict[Role, ImageTree] = {"train": by_role["train"]} if "train" in by_role else {}
    chosen |= {role: by_role[role] for role in [role for role in EVALUATED if role in by_role][:1]}
    parts: Parts = [("train" if role == "train" else "eval", tree) for role, tree in chosen.items()]
    if len(parts) == 2:
        _check_classes(folder, parts[0][1], parts[1][1], chosen)
    only = {name for _, tree in parts for name in tree.classes}
    if len(only) == 1 and is_filler(next(iter(only))):
        raise ModelError(
            f"data.source: {folder}: {_slashed(splits)} hold no class folders, only {next(iter(only))}/",
            f"{splits[0].kind.source} wants one folder a class in each split: train/cat/{splits[0].kind.example}; "
            "other sets by module.py:function",
        )
    used = {tree.name for _, tree in parts}
    tell_splits(parts, [tree.name for tree in (*splits, *empty) if tree.name not in used], notes)
    return parts


def _check_classes(folder: Path, train: ImageTree, evaluated: ImageTree, chosen: Mapping[Role, ImageTree]) -> None:
    """Splits of one set have the same classes; of those that are only trained on, `tell_splits` says so."""
    new = evaluated.classes - train.classes
    if not new:
        return
    if not train.classes & evaluated.classes:
        what = f"{train.name}/ and {evaluated.name}/ are named as splits, and have no class folder in common: "
    else:
        what = f"{evaluated.name}/ has classes that {train.name}/ has not ({', '.join(name_some(new))}): "
    of = [f"{tree.name}/ holds {', '.join(name_some(tree.classes))}" for tree in (train, evaluated)]
    _ambiguous(folder, what + "; ".join(of), chosen)


def _refuse_hidden_splits(folder: Path, full: Sequence[ImageTree]) -> None:
    """Splits whose names are no words for it, and splits inside of each class: both would be read as classes."""
    for tree in full:
        inner = roles_of(name_some(tree.classes, 1000))
        if "train" in inner.values() and len(set(inner.values())) > 1:
            if len(full) == 1:
                _one_level_deeper(folder, tree)
            names = sorted(inner)
            raise ModelError(
                f"data.source: {folder}: {tree.name}/ holds {', '.join(f'{name}/' for name in names)}: splits "
                "inside of a class are not read",
                f"put them outside ({names[-1]}/{tree.name}/…), or, for one class of all its {tree.kind.plural}, write "
                "in the recipe's [data]: split_folders = {}",
            )
    deep = [tree for tree in full if tree.classes and not tree.images]
    if len(deep) != len(full):
        return
    if len(full) == 1 and len(full[0].classes) > 1:
        _one_level_deeper(folder, full[0])
    shared = set.intersection(*(tree.classes for tree in full)) if len(full) > 1 else set()
    if len(shared) > 1:
        _ambiguous(
            folder,
            f"{_slashed(full)} hold folders of the same names ({', '.join(name_some(shared))}), as splits do, "
            "and are not named as splits",
            {"train": full[0], "eval": full[-1]},
        )


def _refuse_mixed(folder: Path, splits: Sequence[ImageTree], roles: Mapping[str, Role]) -> None:
    """Folders named as splits that hold several class folders, or the same, and images right in them too."""
    holders = [tree for tree in splits if tree.classes]
    several = any(len(tree.classes) > 1 for tree in holders)
    if several or (len(holders) > 1 and _alike(holders[0], holders[1:])):
        strays = [path for tree in holders for path in tree.images]
        kind = holders[0].kind
        _ambiguous(
            folder,
            f"{_slashed(holders)} hold class folders ({', '.join(name_some(holders[0].classes))}) and "
            f"{len(strays)} {kind.word if len(strays) == 1 else kind.plural} beside them "
            f"({strays[0].relative_to(folder)})",
            {roles[tree.name]: tree for tree in holders},
        )


def _one_level_deeper(folder: Path, tree: ImageTree) -> NoReturn:
    raise ModelError(
        f"data.source: {folder} has one folder, {tree.name}/, that holds {', '.join(name_some(tree.classes))}: "
        "one class, or the folder that an archive was unpacked to?",
        f'write source = "{tree.kind.source}:…/{tree.name}", or in [data]: {_CLASSES_INSTEAD}',
    )


def _ambiguous(folder: Path, what: str, by_role: Mapping[Role, ImageTree]) -> NoReturn:
    names = {role: tree.name for role, tree in by_role.items()}
    evaluated = next((names[role] for role in EVALUATED if role in names), None)
    table = f"train = {json.dumps([names.get('train', '…')], ensure_ascii=False)}"
    if evaluated:
        table += f", eval = {json.dumps([evaluated], ensure_ascii=False)}"
    raise ModelError(
        f"data.source: {folder} can be read in two ways: {what}",
        f"write in the recipe's [data]: split_folders = {{ {table} }} (which folders are trained on and evaluated), or "
        + _CLASSES_INSTEAD,
    )


def _alike(tree: ImageTree, others: Iterable[ImageTree]) -> bool:
    return any(tree.classes & other.classes for other in others)


def tell_splits(parts: Parts, left_out: Sequence[str], notes: list[str]) -> None:
    """What was taken as what, and classes that only some splits have."""
    does = {"train": "trained on", "eval": "evaluated"}
    names = [f"{tree.name}/ is {does[split]}" for split, tree in parts]
    names += [f"{name}/ is left out" for name in left_out]
    notes.append("split folders: " + ", ".join(names))
    classes = {name for _, tree in parts for name in tree.classes}
    for _, tree in parts:
        missing = sorted(classes - tree.classes)
        if missing and len(parts) > 1:
            notes.append(f"{tree.name}/ has no {tree.kind.plural} of {', '.join(name_some(missing))}")


def name_some(names: Iterable[str], limit: int = 8) -> list[str]:
    ordered = sorted(names)
    return [*ordered[:limit], *(["…"] if len(ordered) > limit else [])]


def _slashed(trees: Sequence[ImageTree]) -> str:
    return ", ".join(f"{name}/" if name != "…" else name for name in name_some(tree.name for tree in trees))


def _is(trees: Sequence[ImageTree]) -> str:
    return "is" if len(trees) == 1 else "are"
