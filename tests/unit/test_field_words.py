"""Every field of a public dataclass has a line of its own under `Attributes:` in the class's docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pipeline" / "pocketforge"


def rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return found


def fields_without_a_word(source: str) -> Iterator[str]:
    """`Class.field` of public dataclasses, where the docstring's `Attributes:` has no line `field: …`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue
        _, _, told = (ast.get_docstring(node) or "").partition("Attributes:")
        for statement in node.body:
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            name = statement.target.id
            if name.startswith("_") or "ClassVar" in ast.unparse(statement.annotation):
                continue
            if not re.search(rf"^\s*{re.escape(name)}: \S", told, re.MULTILINE):
                yield f"{node.name}.{name}"


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_field_has_a_word(room: str) -> None:
    missing = [
        f"{path.relative_to(PACKAGE)}: {field}"
        for path in rooms()[room]
        for field in fields_without_a_word(path.read_text("utf-8"))
    ]
    assert not missing, "\n".join(missing)


def test_the_reader_notices_a_field_without_a_word() -> None:
    told = '@dataclass(frozen=True)\nclass A:\n    """A.\n\n    Attributes:\n        x: Ms.\n    """\n    x: int\n'
    assert not list(fields_without_a_word(told))
    assert list(fields_without_a_word(told + "    y: int\n")) == ["A.y"]
    assert list(fields_without_a_word("@dataclass\nclass B:\n    z: int\n")) == ["B.z"]
