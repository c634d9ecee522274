"""What `nox -s compat` installs: the ends of facts/tested.py, as pip takes them. Read without Pocketforge installed."""

from __future__ import annotations

import re
from pathlib import Path

_ROW = re.compile(r'^    "([a-z-]+)": Range\("([\d.]+)", "([\d.]+)"\)', re.MULTILINE)


def ends_of(root: Path) -> dict[str, list[str]]:
    """`names`, and `oldest` and `newest` as requirements; torch stays the pinned one."""
    text = (root / "pipeline" / "pocketforge" / "facts" / "tested.py").read_text(encoding="utf-8")
    rows = [match for match in _ROW.findall(text) if match[0] != "torch"]
    return {
        "names": [name for name, _, _ in rows],
        "oldest": [f"{name}=={oldest}" for name, oldest, _ in rows],
        "newest": [f"{name}=={newest}" for name, _, newest in rows],
    }
