"""The files that a project carries say what the project does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("hook", "group"), [("ruff-check", "lint"), ("ruff-format", "lint"), ("mypy", "types")])
def test_pre_commit_runs_the_linters_that_nox_runs(hook: str, group: str) -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    listed = re.search(rf"id: {hook}\n.*?additional_dependencies: \[(.*?)\]", text, re.S)
    assert listed is not None
    assert listed[1].split(", ") == PYPROJECT["dependency-groups"][group]


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PYPROJECT["project"]["license"] == "Apache-2.0" and "Apache License" in text and "Version 2.0" in text
    assert PYPROJECT["project"]["license-files"] == ["LICENSE"]


def test_nobody_is_told_to_install_from_an_index_what_is_on_none() -> None:
    told = [
        f"{path.name}: {line}"
        for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install\s+['\"]?pocketforge", line)
    ]
    assert told == []


def test_the_wheel_that_readme_installs_has_the_name_of_the_one_that_is_made() -> None:
    project = PYPROJECT["project"]
    name = f"dist/{project['name']}-{project['version']}-py3-none-any.whl"
    assert name in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by it: the second of a run would be an error, and its tests not run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
