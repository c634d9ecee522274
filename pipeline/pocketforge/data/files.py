"""Which files a data source reads: stdlib only, so that a build's keys cost no import of numpy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pocketforge.data.base import Place, SourceFiles, SourceModule
from pocketforge.errors import ModelError, PluginFailed
from pocketforge.files import Resolve, is_special
from pocketforge.recipe.data import parse_source
from pocketforge.registries import SOURCES


def source_of(
    source: str, resolve: Resolve, split_folders: Mapping[str, Sequence[str]] | None = None
) -> tuple[SourceModule, Place]:
    """The module that reads a recipe's `data.source`, and what it is to read."""
    kind, written = parse_source(source)
    return load_source(kind), Place(written, resolve, split_folders)


def load_source(kind: str) -> SourceModule:
    """The module of a row of SOURCES. Raises PluginFailed for one of an installed package that is not there."""
    name = SOURCES[kind].module
    with SOURCES.calling(kind, f"import of {name}"):
        return cast(SourceModule, importlib.import_module(name))


def look_at(source: str, resolve: Resolve, split_folders: Mapping[str, Sequence[str]] | None = None) -> SourceFiles:
    """Files that a user's function opens by itself are not known.

    Raises ModelError when the data is not there, ToolMissing when the library that brings it is not.
    """
    module, place = source_of(source, resolve, split_folders)
    kind, _ = parse_source(source)
    with SOURCES.calling(kind, f"{SOURCES[kind].module}:files"):
        found = module.files(place)
    if not isinstance(found, SourceFiles):
        raise PluginFailed(f"data source {kind}: its files must be SourceFiles, found a {type(found).__name__}")
    return found


def fingerprint_files(source: str, resolve: Resolve) -> list[Path]:
    """The files of `look_at` alone."""
    return list(look_at(source, resolve).paths)


def source_folder(source: str, resolve: Resolve) -> Path | None:
    """The folder whose listing decides which files the source reads; None where nothing but its own text does."""
    kind, written = parse_source(source)
    return resolve(written) if SOURCES[kind].place == "DIR" else None


def existing_file(path: Path, what: str) -> Path:
    if is_special(path):
        raise ModelError(f"data.source: {path} is no regular file (a pipe, a socket or a device)", "name a file")
    if not path.is_file():
        raise ModelError(f"data.source: there is no {what} file {path}", "paths are relative to the recipe's folder")
    return path
