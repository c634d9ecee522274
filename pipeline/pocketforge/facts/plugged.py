"""The rows that a recipe uses, and of those that packages bring: whose they are, and which content keys cover."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from pocketforge.errors import PluginFailed
from pocketforge.facts.parts import Info, fault_of_part, parts_of, spec_of
from pocketforge.plugin_code import calling
from pocketforge.plugins import PREFIX, Plugin, Registry
from pocketforge.recipe import METRICS, Recipe
from pocketforge.recipe.data import parse_source
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.registries import DEVICES, RUNTIMES, SOURCES

_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class UsedRow:
    """A row of a registry that a recipe uses.

    Attributes:
        registry: Where it is.
        name: The recipe's word.
        info: The row.
        plugin: The package that brings it; None for ours.
    """

    registry: Registry[Any]
    name: str
    info: Info
    plugin: Plugin | None


def rows_of(recipe: Recipe) -> list[UsedRow]:
    """Runtimes, schemes, kinds of devices and the data's source, each once. Raises PluginFailed."""
    asked: dict[tuple[str, str], UsedRow] = {}

    def ask(registry: Registry[Any], name: str) -> None:
        if (registry.group, name) not in asked:
            row = registry[name]
            asked[registry.group, name] = UsedRow(registry, name, row, registry.brought_by(name))

    ask(SOURCES, parse_source(recipe.data.source)[0])
    for target in recipe.targets:
        ask(RUNTIMES, target.runtime)
        ask(SCHEMES, target.quantize.scheme)
    for device in recipe.devices:
        ask(DEVICES, device.via)
    for goal in filter(None, (getattr(entry, "goal", None) for entry in recipe.compress)):
        if goal.runtime:
            ask(RUNTIMES, goal.runtime)
    return list(asked.values())


def used_runtime(name: str) -> UsedRow:
    """One that is asked for beside a recipe. Raises KeyError for a name that none has, PluginFailed."""
    return UsedRow(RUNTIMES, name, RUNTIMES[name], RUNTIMES.brought_by(name))


def metrics_of(recipe: Recipe) -> list[UsedRow]:
    """Those that its budgets name, each once."""
    names = dict.fromkeys(budget.metric for budget in recipe.budgets if METRICS.names(budget.metric))
    return [UsedRow(METRICS, name, METRICS[name], METRICS.brought_by(name)) for name in names]


def check_parts(recipe: Recipe) -> None:
    """Raises PluginFailed for a module or a function that a row of a package names and that is not there: at the start
    of a build, and not where the build first needs it."""
    for row in (*rows_of(recipe), *metrics_of(recipe)):
        if row.plugin is None:
            continue
        for part, place in parts_of(row.info).items():
            with row.registry.calling(row.name, f"{part} {place}"):
                fault = fault_of_part(part, place)
            if fault:
                raise row.plugin.failed(f"cannot be used: its {part} is {place}, {fault}")


def package_versions(rows: Iterable[UsedRow]) -> dict[str, str]:
    """Of the packages that bring these rows: the version, and a digest of its files. An editable install, or one of a
    folder, changes without a new version. Raises PluginFailed for files that cannot be read."""
    by_package: dict[str, list[tuple[Plugin, Info]]] = {}
    for row in rows:
        if row.plugin is not None:
            by_package.setdefault(row.plugin.distribution, []).append((row.plugin, row.info))
    versions = {}
    for name, brought in by_package.items():
        plugin, _ = brought[0]
        with calling(f"{plugin.words}: the package's files cannot be read", plugin.hint):
            digest = _digest(plugin, [info for _, info in brought])
        _check_as_loaded(brought, digest)
        versions[name] = f"{plugin.version} (files {digest[:_SHOWN_DIGITS]})"
    return versions


# Rows, as they were loaded, and their package's files at the first look at them.
_looked_at: dict[tuple[int, ...], tuple[list[tuple[Plugin, Info]], str]] = {}


def _check_as_loaded(brought: list[tuple[Plugin, Info]], digest: str) -> None:
    """Raises PluginFailed where a package's files changed since this process loaded its rows: its rows, and what the
    fork server has imported, are of the files before, and keys would say that they are of those after."""
    # The rows are held, so no other object has their ids.
    _, before = _looked_at.setdefault(tuple(id(info) for _, info in brought), (brought, digest))
    if before != digest:
        plugin, _ = brought[0]
        raise PluginFailed(
            f"{plugin.words} is of a package whose files changed since this process loaded it", "run the command again"
        )


def _digest(plugin: Plugin, infos: Iterable[Info]) -> str:
    """SHA-256 of the package's own files, by their names: those that pip wrote down, and those of the modules that its
    rows are and name (of an editable install pip wrote down none of them)."""
    files: dict[str, Path] = {}
    modules = {place.partition(":")[0] for info in infos for place in parts_of(info).values()}
    package = plugin.entry_point.dist
    if package is not None:
        modules |= {each.module for each in package.entry_points if each.group.startswith(PREFIX)}
        for each in package.files or ():
            # Not what pip wrote beside it: programs, metadata, the ways of an editable install to its source.
            first = each.parts[0]
            if not (first.endswith((".dist-info", ".pth")) or first.startswith(("..", "__editable__"))):
                files[each.as_posix()] = Path(str(each.locate()))
    for module in modules:
        if module.partition(".")[0] != "pocketforge":
            files |= _files_of(module)
    digest = hashlib.sha256()
    for name in sorted(files):
        if not name.endswith(".pyc") and files[name].is_file():
            content = files[name].read_bytes()
            digest.update(f"{name} {len(content)}\n".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def _files_of(module: str) -> dict[str, Path]:
    """All files of the outermost package that a module is in; a namespace that packages share is none."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = spec_of(".".join(parts[:end]))
        if spec is not None and spec.origin is not None:
            return dict(_below(spec))
    return {}


def _below(spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    origin = Path(str(spec.origin))
    above = spec.name.replace(".", "/")
    if not spec.submodule_search_locations:
        yield above + origin.suffix, origin
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in folder.rglob("*"):
            if "__pycache__" not in path.parts:
                yield f"{above}/{path.relative_to(folder).as_posix()}", path
