"""The names of what a target ships, and the rules between those of all targets: one folder holds them together."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from pocketforge.registries import RUNTIMES

if TYPE_CHECKING:
    from pocketforge.recipe.target import Target

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
MANIFEST, PROVENANCE, BOM = "manifest.json", "provenance.json", "bom.cdx.json"
CARD, CARD_PAGE = "model-card.md", "model-card.html"
# What release/ holds beside targets' files and their sidecars.
DOCUMENTS = (MANIFEST, PROVENANCE, BOM, CARD, CARD_PAGE)
MODEL = "model"
# Of Linux's file systems, macOS and Windows alike; in bytes, as Linux counts.
LONGEST_NAME_BYTES = 255
# Windows takes these for devices, whatever ending they have.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789")}


def file_name(target: str, runtime: str, role: str, suffix: str = "") -> str:
    """NAME with the runtime's ending for the model file, NAME.ROLE for a file beside it. suffix: of a model file that
    was made elsewhere, and may be of another of the runtime's kinds."""
    if role == MODEL:
        return target + (suffix or RUNTIMES[runtime].suffix)
    if role not in RUNTIMES[runtime].beside:  # recipes were checked without it
        raise AssertionError(
            f"runtime {runtime} writes a file {role!r}, which its RUNTIMES entry does not have in beside"
        )
    return f"{target}.{role}"


def sidecar_name(target: str, role: str) -> str:
    """NAME.json for the target's model file, NAME.ROLE.json for a file beside it (NAME.ort.json)."""
    return f"{target}.json" if role == MODEL else f"{target}.{role}.json"


def shipped_names(target: Target) -> Iterator[str]:
    """All that a target puts into release/."""
    for role in (MODEL, *(() if target.file else RUNTIMES[target.runtime].beside)):
        yield file_name(target.name, target.runtime, role, target.suffix)
        yield sidecar_name(target.name, role)


def shared_name(file: str) -> str:
    """What a tokenizer's file is called in a release, and in the sidecars' preprocessing."""
    return PurePath(file).name


def faults_of_names(targets: Sequence[Target], shared: Sequence[str] = ()) -> list[str]:
    """Names that cannot be files beside each other, on any system that a release may be copied to.

    shared: files of the recipe that are shipped beside the targets'.
    """
    faults = []
    # Each name as a file system that sees neither case nor a letter's composition takes it → who ships it.
    taken = {_folded(name): ("", name) for name in (SUMS, SIGNATURE, *DOCUMENTS)}
    for file in shared:
        _, other_name = taken.setdefault(_folded(shared_name(file)), ("", file))
        name = shared_name(file)
        if not name.isprintable() or "\\" in name or name.partition(".")[0].casefold() in _DEVICES:
            faults.append(f"{file!r} is shipped, and its name is none on every system: rename it")
        if other_name != file:
            faults.append(f"{file} is shipped as {shared_name(file)}, as {other_name} is: rename one")
    for target in targets:
        names = list(shipped_names(target))
        longest = max(names, key=lambda name: len(name.encode()))
        if len(longest.encode()) > LONGEST_NAME_BYTES:
            over = len(longest.encode()) - LONGEST_NAME_BYTES
            faults.append(
                f"target {target.name!r}: its file …{longest[len(target.name) :]} would have a name of "
                f"{len(longest.encode())} bytes, and file systems take {LONGEST_NAME_BYTES}: shorten it by {over}"
            )
        if target.name.partition(".")[0].casefold() in _DEVICES:
            faults.append(f"target {target.name!r}: Windows takes {names[0]} for a device, not a file: rename it")
        for name in names:
            other, other_name = taken.setdefault(_folded(name), (target.name, name))
            if other == target.name:
                continue
            if not other:
                faults.append(
                    f"target {target.name!r} would ship {name}, as the release has a file {shared_name(other_name)}"
                )
            elif name == other_name:
                faults.append(f"targets {other!r} and {target.name!r} would both ship {name}: rename one")
            else:
                faults.append(
                    f"targets {other!r} and {target.name!r} would ship {other_name} and {name}, one file where case "
                    "does not count (macOS, Windows): rename one"
                )
    return faults


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
