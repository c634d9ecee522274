"""Which files a model definition is made of: stdlib only, so that a build's keys cost no import of torch."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from pocketforge.errors import ModelError


def definition_files(definition: str, resolve: Callable[[str], Path]) -> list[Path]:
    """The files whose content decides what `definition` builds, sorted.

    `file.py` → it and the sibling modules that it imports, recursively; `file.pt2` → it; `transformers:DIR` → every
    file of the folder; `torchvision:`/`timm:` → none (the library's version speaks for them).
    Raises ModelError when a file is missing or is not Python.
    """
    kind, colon, place = definition.partition(":")
    if colon and kind in ("torchvision", "timm"):
        return []
    if colon and kind == "transformers":
        folder = resolve(place)
        if not folder.is_dir():
            raise ModelError(f"model.definition: there is no folder {folder}", "transformers:DIR needs a local folder")
        return sorted(path for path in folder.rglob("*") if path.is_file())
    path = resolve(definition)
    if not path.is_file():
        raise ModelError(f"model.definition: there is no file {path}", "paths are relative to the recipe's folder")
    return module_files(path) if path.suffix == ".py" else [path]


def module_files(path: Path) -> list[Path]:
    """A Python file and the modules of its own folder that it imports, recursively; sorted.

    Found by reading the code, not by running it: an import made through `importlib` with a computed name is not seen.
    """
    root = path.parent
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        waiting.extend(_siblings(current, root))
    return sorted(seen)


def _siblings(path: Path, root: Path) -> list[Path]:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ModelError(f"{path}{f':{line}' if line else ''} is not valid Python: {error}") from error
    files: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                files.extend(_locate(root, alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            base = root
            if node.level:  # relative: from inside a sibling package
                base = path.parent
                for _ in range(node.level - 1):
                    base = base.parent
                if not base.is_relative_to(root):
                    continue
            parts = node.module.split(".") if node.module else []
            files.extend(_locate(base, parts))
            for alias in node.names:  # `from package import module`
                files.extend(_locate(base, [*parts, alias.name]))
    return files


def _locate(base: Path, parts: list[str]) -> list[Path]:
    """The files that importing `parts` below `base` runs: each package's __init__ on the way, then the module."""
    files: list[Path] = []
    here = base
    for index, part in enumerate(parts):
        package, module = here / part / "__init__.py", here / f"{part}.py"
        if package.is_file():
            files.append(package)
        elif module.is_file():
            return [*files, module]
        elif not (here / part).is_dir():
            # `from package import name`: the last part may be a name inside the package, not a file.
            return files if index == len(parts) - 1 else []
        here = here / part
    return files
