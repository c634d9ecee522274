"""What a release's provenance says of the build's inputs: hashes that the keys are of, and the repository's commit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.facts.checkout import changed_files, git
from pocketforge.plan.steps import Facts, ReadFiles
from pocketforge.recipe import Recipe
from pocketforge.release.inputs import Commit, InputFile, InputRole, Inputs

_EPOCH = "SOURCE_DATE_EPOCH"


def inputs_of(recipe: Recipe, facts: Facts) -> Inputs:
    """Of the files as they were when they went into the keys. Raises RecipeError for a wrong SOURCE_DATE_EPOCH."""
    roles = tuple(_role(name, read) for name, read in sorted(facts.files.items()))
    return Inputs(roles, _commit(Path(recipe.folder or "."), recipe.named_files().values()), _made_at())


def _role(name: str, read: ReadFiles) -> InputRole:
    root = os.path.commonpath([path.parent for path in read.paths]) if read.paths else ""
    names = [os.path.relpath(path, root) for path in read.paths] if read.hashes else []
    files = tuple(InputFile(_text(each), sha256) for each, sha256 in zip(names, read.hashes, strict=True))
    return InputRole(_text(name), read.digest, len(read.paths), files)


def _text(name: str) -> str:
    """A name's bytes that are no text as escapes: JSON holds text alone."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _made_at() -> str:
    said = os.environ.get(_EPOCH, "")
    if not said:
        return ""
    try:
        return datetime.fromtimestamp(int(said), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise RecipeError(f"{_EPOCH} must be seconds since 1970, found {said!r}", "or leave it out") from None


def _commit(folder: Path, named: Iterable[Path]) -> Commit | None:
    found = git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if not found:
        return None
    top, _, head = found.removesuffix("\n").rpartition("\n")
    root = Path(top).resolve()
    inside = [str(path.resolve()) for path in named if path.resolve().is_relative_to(root)]
    changed = changed_files(folder)
    # Named files that the commit does not have would not come with it.
    unknown = git(root, "ls-files", "--others", "--", *inside) if inside else ""
    return Commit(head, changed == "" and unknown == "")
