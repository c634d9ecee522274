"""manifest.json: which files a release has for an app, and which release it is. What an updater reads first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.release import version_order

MANIFEST_VERSION: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """One file that an app loads.

    Attributes:
        path: Its name in the release.
        sha256: Of its bytes.
        size_bytes: How many they are.
        target: The recipe's target that it is of.
        runtime: That loads it.
        role: "model" is what the runtime loads; further files have the runtime's own words.
        sidecar: The name of what says how to use it.
    """

    path: str
    sha256: str
    size_bytes: int
    target: str
    runtime: str
    role: str
    sidecar: str


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One file that an app needs for all of them: what preprocessing reads.

    Attributes:
        path: Its name in the release, as sidecars' preprocessing has it.
        sha256: Of its bytes.
        size_bytes: How many they are.
        role: "tokenizer".
    """

    path: str
    sha256: str
    size_bytes: int
    role: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A release.

    Attributes:
        recipe: The recipe's name.
        recipe_sha256: Of what it says.
        version: Of the release; None where the recipe gives none.
        files: In the recipe's order.
        shared: What an app needs beside them, whichever it loads.
        manifest_version: Of this file's keys.
    """

    FILE: ClassVar[str] = "manifest.json"

    recipe: str
    recipe_sha256: str
    version: str | None
    files: tuple[ShippedFile, ...]
    shared: tuple[SharedFile, ...] = ()
    manifest_version: Literal[1] = MANIFEST_VERSION

    def __post_init__(self) -> None:
        if self.version is not None:
            version_order(self.version)


def goes_back(before: str | None, after: str | None) -> str:
    """Why an app that has version `before` must not take `after`, of other content; empty where it may.

    An attacker who can only replay what was once signed cannot bring an old fault back, and no two contents share a
    version. A roll-back is the old content under a new version (docs/releases.md).
    """
    if before is None:
        return ""
    if after is None:
        return f"it has no version, and the one before is {before}"
    if version_order(after) > version_order(before):
        return ""
    return f"it is version {after}, which is not higher than {before}"
