"""SHA256SUMS: a line for each file of a release, as sha256sum writes and checks it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pocketforge.recipe.shipped_names import LONGEST_NAME_BYTES, SIGNATURE, SUMS

MOST_BYTES = 2**20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
# Of a name: what a path is made of, and what sha256sum itself would have to escape.
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]")


def write_sums(hashes: Mapping[str, str]) -> bytes:
    """Name → SHA-256, as a file. The same names and hashes give the same bytes."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())).encode()


def read_sums(content: bytes) -> tuple[dict[str, str], list[str]]:
    """Name → SHA-256, and what is wrong with the file, in words. A line with a fault gives no name."""
    hashes: dict[str, str] = {}
    faults: list[str] = []
    if not content:
        return {}, ["it is empty"]
    if not content.endswith(b"\n"):
        faults.append("its last line has no end: it was cut off")
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            match = _LINE.fullmatch(line.decode())
        except UnicodeDecodeError:
            match = None
        if match is None:
            faults.append(f'line {number}: wanted "SHA-256, two spaces, name", found {line[:80]!r}')
            continue
        digest, name = match.groups()
        fault = name_fault(name) or ("is there twice" if name in hashes else "")
        if fault:
            faults.append(f"line {number}: name {name[:80]!r} {fault}")
        else:
            hashes[name] = digest
    return hashes, faults


def name_fault(name: str) -> str:
    """Why this cannot be the name of a release's file; empty where it can. Whatever reads it joins it to a folder."""
    if name in (".", "..") or _FORBIDDEN.search(name):
        return "is no plain file name: a release is one folder, without links out of it"
    if name in (SUMS, SIGNATURE):
        return "cannot be listed in the file itself"
    if len(name.encode()) > LONGEST_NAME_BYTES:
        return f"has more than {LONGEST_NAME_BYTES} bytes"
    return ""
