"""Pocketforge's own version and requirements, from the installed distribution or the checkout around it."""

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

PACKAGE = "pocketforge"
_OF_AN_EXTRA = re.compile(r"""(.*?)\s*;\s*extra\s*==\s*['"](.+?)['"]\s*""")


def version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "not installed (run from a checkout)"


def requirements() -> dict[str, list[str]]:
    """Extra → what it requires, as PEP 508 writes it; "" has what is always required. Empty where nothing says it.

    They have one place, pyproject.toml. In a checkout that file is read: an editable install's metadata is as old as
    its last install. An installed package has them in its metadata.
    """
    checkout = Path(__file__).parents[2] / "pyproject.toml"
    if checkout.is_file():
        with checkout.open("rb") as file:
            project = tomllib.load(file).get("project", {})
        if project.get("name") == PACKAGE:
            return {"": project.get("dependencies", []), **project.get("optional-dependencies", {})}
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        match = _OF_AN_EXTRA.fullmatch(line)
        found.setdefault(match[2] if match else "", []).append(match[1] if match else line)
    return found


def install(extra: str) -> str:
    """What to type where an extra's packages are missing. They are named: Pocketforge itself is on no index, so that
    an install of `pocketforge[…]` would find nothing, or somebody else's package."""
    packages = requirements().get(extra)
    if not packages:
        return f"install Pocketforge again with its extra {extra!r}, from where it came from"
    return f"pip install {shlex.join(packages)}"
