"""Which files a data source reads: stdlib only, so that a build's keys cost no import of numpy."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from pocketforge.data.base import Place, SourceFiles, SourceModule, SplitName
from pocketforge.errors import ModelError, PluginFailed
from pocketforge.files import Resolve, is_special
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import parse_source
from pocketforge.registries import SOURCES
from pocketforge.row_types import type_fault


def source_of(
    source: str,
    resolve: Resolve,
    split_folders: Mapping[str, Sequence[str]] | None = None,
    *,
    labels: tuple[str, ...] = (),
    columns: Columns | None = None,
    mask_values: tuple[int, ...] = (),
) -> tuple[SourceModule, Place]:
    """The module that reads a recipe's `data.source`, and what it is to read (`Place` says the rest)."""
    kind, written = parse_source(source)
    return load_source(kind), Place(written, resolve, split_folders, labels, columns, mask_values)


def load_source(kind: str) -> SourceModule:
    """The module of a row of SOURCES. Raises PluginFailed for one of an installed package that is not there."""
    name = SOURCES[kind].module
    with SOURCES.calling(kind, f"import of {name}"):
        return cast(SourceModule, importlib.import_module(name))


def look_at(
    source: str,
    resolve: Resolve,
    split_folders: Mapping[str, Sequence[str]] | None = None,
    columns: Columns | None = None,
) -> SourceFiles:
    """Files that a user's function opens by itself are not known.

    Raises ModelError when the data is not there, ToolMissing when the library that brings it is not.
    """
    module, place = source_of(source, resolve, split_folders, columns=columns)
    kind, _ = parse_source(source)
    with SOURCES.calling(kind, f"{SOURCES[kind].module}:files"):
        found = module.files(place)
    if not isinstance(found, SourceFiles):
        raise PluginFailed(f"data source {kind}: its files must be SourceFiles, found a {type(found).__name__}")
    plugin = SOURCES.brought_by(kind)
    if plugin is not None and (fault := type_fault(found)):
        raise plugin.failed(f"({SOURCES[kind].module}:files) gives {fault}")
    return found


def fingerprint_files(source: str, resolve: Resolve) -> list[Path]:
    """The files of `look_at` alone."""
    return list(look_at(source, resolve).paths)


def source_folder(source: str, resolve: Resolve) -> Path | None:
    """The folder whose listing decides which files the source reads; None where nothing but its own text does."""
    kind, written = parse_source(source)
    if SOURCES[kind].place not in ("DIR", "PATH"):
        return None
    path = resolve(written)
    # Of a single file nothing is listed.
    return path if SOURCES[kind].place == "DIR" or path.is_dir() else None


def existing_file(path: Path, what: str) -> Path:
    if is_special(path):
        raise ModelError(f"data.source: {path} is no regular file (a pipe, a socket or a device)", "name a file")
    if not path.is_file():
        raise ModelError(f"data.source: there is no {what} file {path}", "paths are relative to the recipe's folder")
    return path


def inside(folder: Path, written: str, where: str) -> Path:
    """The file of that name in a folder. Raises ModelError for a name that leads out of it.

    written: relative to the folder, or absolute. where: begins the error. Links in the folder are followed: they are
    the user's own, names in a data set are anybody's.
    """
    # Texts: of a million paths this is what time goes to.
    root = os.path.normpath(folder)
    path = os.path.normpath(os.path.join(root, written))
    if "\0" in written or not (path == root or path.startswith(os.path.join(root, ""))):
        raise ModelError(
            f"{where} names {written!r}, which is not in {folder}",
            "data lies in one folder, which goes into keys whole; name the folder that holds all of it",
        )
    return Path(path)


def layout_digest(folder: Path, parts: Iterable[tuple[SplitName | None, Path]]) -> str:
    """Of what files' places say besides their content: the split of each."""
    digest = hashlib.sha256()
    for split, path in parts:
        digest.update(f"{split}\0{path.relative_to(folder).as_posix()}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
