"""`docs`: every page is there, by the names that messages use; the wheel holds what a checkout does."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_pages_are_listed_and_printed(cli):
    listed = cli("docs")
    assert (listed.code, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == PAGES
    assert re.search("^recipe +Recipe reference$", listed.stdout, re.MULTILINE)
    text = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    for name in ("recipe", "recipe.md", "docs/recipe.md"):
        assert cli("docs", name).stdout == text


@pytest.mark.parametrize("name", ["recipes", "../README", "", "/etc/passwd"])
def test_a_page_that_there_is_not_is_said(cli, name):
    done = cli("docs", name)
    assert (done.code, done.stdout) == (2, "") and f"docs have no page {name!r}" in done.stderr
    assert ("did you mean 'recipe'?" in done.stderr) == (name == "recipes")


def test_a_package_without_pages_says_so(cli, monkeypatch, tmp_path):
    from pocketforge.commands import docs

    monkeypatch.setattr(docs, "shipped_dir", lambda name: tmp_path / name)
    for args in (("docs",), ("docs", "recipe")):
        done = cli(*args)
        assert done.code == 2 and f"there are no pages in {tmp_path / 'docs'}" in done.stderr


def test_the_wheel_holds_the_pages():
    """`nox -s wheel` prints one out of the installed wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]["docs"] == "pocketforge/_shipped/docs"
    assert '"pocketforge", "docs", "recipe"' in (ROOT / "noxfile.py").read_text(encoding="utf-8")


def test_messages_name_pages_by_the_command():
    """Who has the wheel has no docs/ folder: a message or a written recipe that names it leads nowhere."""
    named = set()
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        if "docs" not in (source := path.read_text(encoding="utf-8")):
            continue
        nodes = list(ast.walk(ast.parse(source)))
        docstrings = {ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, _WITH_DOCSTRING)}
        texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        for text in texts - docstrings:
            assert not re.search(r"docs/\w+\.md", text), f"{path.name}: {text}"
            named |= set(re.findall(r"pocketforge docs ([a-z_]+)", text))
    assert {"recipe", "report", "extending"} <= named <= set(PAGES)


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
