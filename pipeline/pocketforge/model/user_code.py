"""Load a user's Python file by its path: never by a package name, never left behind in `sys.path`.

A model definition and a data function come in through here. The file may import its neighbours ("sibling modules").
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from pocketforge.errors import ModelError


@contextmanager
def sibling_imports(folder: Path) -> Iterator[None]:
    """Let code import modules that lie in `folder`, and forget them again afterwards.

    Two users' folders may both hold a `layers.py`: what one folder gave is taken out of `sys.modules` at the end, so
    that the other gets its own. Nothing is written into the user's folder (no `__pycache__`).
    """
    own = {p.stem if p.is_file() else p.name for p in folder.iterdir() if p.suffix == ".py" or p.is_dir()}
    # A file here may share its name with the standard library, with us or with an installed package: those stay.
    own -= {*sys.stdlib_module_names, __name__.partition(".")[0]}
    installed = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    hidden = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.partition(".")[0] in own and not _lies_in(sys.modules[name], installed)
    }
    wrote_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    # The user's PYTHONPATH may name the working folder, which is on no path of ours: last, so that it replaces nothing.
    more = [path for path in _from_the_environment() if path not in sys.path]
    sys.path.extend(more)
    hook = _source_hook((folder, *map(Path, more)))
    sys.path_hooks.insert(0, hook)
    _forget_finders(folder, *more)
    before = set(sys.modules)
    try:
        yield
    finally:
        for path in (str(folder), *more):
            sys.path.remove(path)
        sys.path_hooks.remove(hook)
        _forget_finders(folder, *more)
        sys.dont_write_bytecode = wrote_bytecode
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in own and not _lies_in(sys.modules[name], installed):
                del sys.modules[name]
        sys.modules.update(hidden)


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles the file that is there. Python would take an old .pyc beside it by size and whole seconds of its time:
    `cp -p`, `touch -d` or a quick edit, and what runs is not what the key is of."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _source_hook(folders: Sequence[Path]) -> Callable[[str], importlib.machinery.FileFinder]:
    loaders = [
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_FromSource, importlib.machinery.SOURCE_SUFFIXES),
        (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
    ]

    def find(path: str) -> importlib.machinery.FileFinder:
        if not any(Path(path).is_relative_to(folder) for folder in folders):
            raise ImportError(path)
        # An environment may lie beside the user's code: what is installed there keeps its .pyc files.
        if {"site-packages", "dist-packages"} & {*Path(path).parts}:
            raise ImportError(path)
        return importlib.machinery.FileFinder(path, *loaders)

    return find


def _forget_finders(*folders: Path | str) -> None:
    """Let the folders' next imports ask for a loader anew."""
    for path in list(sys.path_importer_cache):
        if any(Path(path).is_relative_to(folder) for folder in folders):
            del sys.path_importer_cache[path]
    importlib.invalidate_caches()


def _from_the_environment() -> list[str]:
    """The folders of the user's PYTHONPATH; an empty entry is the working folder, an empty variable is none."""
    value = os.environ.get("PYTHONPATH", "")
    return list(dict.fromkeys(os.path.abspath(entry) for entry in value.split(os.pathsep))) if value else []


def load_file(path: Path, what: str) -> ModuleType:
    """Run the Python file at `path` as a private module. Call inside `sibling_imports(path.parent)`.

    `what` names the file's role in messages ("model definition"). Raises ModelError when it is missing or raises.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the {what} {path} cannot be read: {error.strerror or error}") from error
    name = "_pocketforge_user_" + hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    module = ModuleType(name)
    module.__file__ = str(path)
    # Compiled here, not through importlib's .pyc cache: that goes by size and whole seconds, so a quick edit is missed.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # a script that calls sys.exit() at its end must not end the build
        del sys.modules[name]
        raise user_error(error, path.parent, f"the {what} {path} raised") from error
    return module


def user_error(error: BaseException, folder: Path, message: str) -> ModelError:
    """A ModelError with the exception's own text and the last line of the user's code that it passed through."""
    text = str(error).strip() or "(no message)"
    where = user_line(error, folder)
    return ModelError(f"{message} {type(error).__name__}: {text}" + (f"\n  at {where}" if where else ""))


def user_line(error: BaseException, folder: Path) -> str:
    """`file:line in function` of the innermost frame that lies in `folder`, or "" when there is none."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        return f"{error.filename}:{error.lineno}"
    where = ""
    current: BaseException | None = error
    while current is not None and not where:
        where = _innermost(current.__traceback__, folder)
        current = current.__cause__ or current.__context__
    return where


def _innermost(trace: TracebackType | None, folder: Path) -> str:
    where = ""
    for frame in traceback.extract_tb(trace):
        if Path(frame.filename).is_relative_to(folder):
            where = f"{frame.filename}:{frame.lineno} in {frame.name}"
    return where


def _lies_in(module: ModuleType, folders: list[Path]) -> bool:
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", []))
    return any(Path(path).is_relative_to(folder) for path in paths for folder in folders)
