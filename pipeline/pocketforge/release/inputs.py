"""What a build was made of, as its provenance tells it: files by name and hash, never by a path of this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the user's.

    Attributes:
        name: From the folder that all of its role's files are in.
        sha256: Of its bytes.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class InputRole:
    """The files that steps read under one name (weights, data, definition …).

    Attributes:
        role: That name.
        sha256: Of all their names and contents (docs/releases.md says how).
        count: How many they are.
        files: Each; empty where there are many.
    """

    role: str
    sha256: str
    count: int
    files: tuple[InputFile, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """The state of the repository that the recipe lies in.

    Attributes:
        id: Of the commit that was checked out.
        clean: Whether no file of it was changed, and all files that the recipe names there were in it.
    """

    id: str
    clean: bool


@dataclass(frozen=True, slots=True)
class Inputs:
    """All of it.

    Attributes:
        roles: By name.
        commit: None where the recipe lies in no repository, or nobody can tell.
        made_at: When, as RFC 3339, by SOURCE_DATE_EPOCH; empty where that is not set: a clock would make each build
            another release.
    """

    roles: tuple[InputRole, ...] = ()
    commit: Commit | None = None
    made_at: str = ""
