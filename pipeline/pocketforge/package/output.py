"""The folder that code is written into: whole or not at all, and never over anything that somebody else wrote."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pocketforge.errors import RecipeError
from pocketforge.files import exchange, explain_os_error, json_text, read_whole, sync_tree
from pocketforge.recipe.shipped_names import MANIFEST, SUMS

# Which files were written and their SHA-256: by it the folder is known for ours, and a change of the user's is seen.
MARKER = "pocketforge-package.json"


def write_folder(out: Path, files: Mapping[str, bytes], about: Mapping[str, object]) -> None:
    """files: path → content. about: what they were made from, for the marker.

    Raises RecipeError where `out` holds what we did not write, StoreError where it cannot be written.
    """
    check_folder(out)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    draft = out.absolute().with_name(f".{uuid.uuid4().hex}.part")
    try:
        for name, content in {**files, MARKER: json_text({**about, "files": sums}).encode()}.items():
            path = draft.joinpath(*PurePosixPath(name).parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        sync_tree(draft)
        if not out.exists():
            draft.rename(out)
        elif not exchange(draft, out):
            shutil.rmtree(out)
            draft.rename(out)
    except OSError as error:
        raise explain_os_error(error, out, "--out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_folder(out: Path) -> None:
    """Raises RecipeError where `out` holds anything that a run before did not write as it is, is the folder that we
    work in (it would be another one afterwards), or lies in a release (whose files are all in SHA256SUMS)."""
    place, here = out.resolve(), Path.cwd()
    if place == here or place in here.parents:
        raise RecipeError(f"--out {out} is the folder that this command runs in", "give a new folder")
    for above in place.parents:
        if (above / MANIFEST).is_file() and (above / SUMS).is_file():
            raise RecipeError(f"--out {out} lies in the release {above}, which would be whole no more", "give another")
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise RecipeError(f"--out {out} is no folder", "give a new folder")
    found = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if not _is_folder(path)}
    if not found:
        return
    if MARKER not in found:
        raise RecipeError(
            f"--out {out} exists, and holds what pocketforge did not write: {next(iter(found))}", "give a new folder"
        )
    try:
        ours: dict[str, str] = json.loads(read_whole(found.pop(MARKER)))["files"]
        others = [name for name, path in found.items() if ours.get(name) != _sha256(path)]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise RecipeError(f"--out {out}: its {MARKER} is not what pocketforge writes", "give a new folder") from None
    if others:
        raise RecipeError(
            f"--out {out}: {others[0]} is not as pocketforge wrote it",
            "move your changes out of the folder (subclass, or wrap, the class), or give a new one",
        )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _sha256(path: Path) -> str:
    return "" if path.is_symlink() else hashlib.sha256(read_whole(path)).hexdigest()
