"""Rows that installed packages add to our registries, without a fork of ours.

A package that brings a kind of data says so in its pyproject.toml, and is found once it is installed:

    [project.entry-points."pocketforge.sources"]
    csv = "pocketforge_csv:SOURCE"

The name is the row's, the object is the row (here a SourceInfo). Nothing is looked for before somebody asks a registry
for a name that is not ours: `pocketforge --help` does not. A row is loaded when it is asked for by its name, so a
package that nobody uses stops nobody, whatever is wrong with it. plugin_code.py runs what packages bring.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pocketforge.errors import PluginFailed, PocketforgeError, first_line
from pocketforge.plugin_code import calling
from pocketforge.row_types import type_fault

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

PREFIX = "pocketforge."
# What can be added to; another group under our prefix is a misspelt one, and nobody would ever read it. Each with where
# its registry is: doctor looks into all, also where nobody has imported them.
_PLACES = {
    "runtimes": "pocketforge.registries",
    "schemes": "pocketforge.recipe.schemes",
    "devices": "pocketforge.registries",
    "sources": "pocketforge.registries",
    "metrics": "pocketforge.recipe.budget",
    "report_formats": "pocketforge.report.formats",
}
GROUPS = tuple(_PLACES)
# A row's name is a word of a recipe.
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
# `module:object`, as entry points are written.
_VALUE = re.compile(r"[\w.]+\s*:\s*[\w.]+\s*\Z")

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One row of an installed package, as its metadata names it. Nothing of it is imported for this.

    Attributes:
        group: What it adds to, without our prefix: `sources`.
        name: The row's name, a word of recipes.
        distribution: The installed package's name, as pip knows it; of its folder where its metadata has none.
        version: The package's version; empty where its metadata has none.
        entry_point: What loads the row.
    """

    group: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def words(self) -> str:
        """Which row of which package it is."""
        return f"plug-in {self.distribution} {self.version or '(no version)'}: {PREFIX}{self.group} {self.name!r}"

    @property
    def hint(self) -> str:
        """What to do about one that cannot be used."""
        if not self.version:
            return "install the package again; pip knows no name of what has none"
        return f"pip install --upgrade {self.distribution}, or pip uninstall {self.distribution}"

    def load(self) -> object:
        """What its entry point names. Raises PluginFailed when it cannot be imported."""
        value = self.entry_point.value
        if not _VALUE.match(value):
            raise self.failed(f"must be written `module:object`, found {value!r}")
        with calling(f"{self.words} ({value}) cannot be imported", self.hint, ours=()):
            return self.entry_point.load()

    def failed(self, fault: str) -> PluginFailed:
        """The error that says what is wrong with the row, and whose it is."""
        return PluginFailed(f"{self.words} {fault}", self.hint)


@dataclass(frozen=True, slots=True)
class _NotLoaded:
    """Stands for a row until it is asked for.

    Attributes:
        plugins: That name it: one, or else it cannot be used.
        unreadable: Of no name: packages of which nobody knows which rows they bring.
    """

    plugins: tuple[Plugin, ...] = ()
    unreadable: tuple[PluginFailed, ...] = ()


# Under what the rows of a registry hold packages that cannot be read.
_NO_NAME = ""


class Registry(Mapping[str, Row], Generic[Row]):
    """Our rows and those of installed packages, by name. A row of ours is given without looking for others.

    Its names are known without loading anything; its rows (`values`, `items`) are not, and a loop over all of them ends
    at the first that is broken: ask for those that are needed, or take `usable`.
    """

    def __init__(
        self,
        group: str,
        kind: type[Row],
        ours: Mapping[str, Row],
        with_library: Callable[[Row, str], Row] | None = None,
        fault_of: Callable[[Row], str] | None = None,
        reserved: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """kind: of each row. with_library: gives a row that also names a distribution among those whose versions go
        into keys; a plug-in's row is made to name its own. None: no step depends on a row. fault_of: why a plug-in's
        row cannot be used, or nothing. reserved: words that mean something else where names stand, and what."""
        if group not in GROUPS:
            raise ValueError(f"group must be one of {', '.join(GROUPS)}, found {group!r}")
        self.group = group
        self.ours = ours
        self._kind = kind
        self._with_library = with_library
        self._fault_of = fault_of
        self._reserved = reserved
        self._added: dict[str, Row | _NotLoaded] | None = None
        self._brought: dict[str, Plugin] = {}
        _registries[group] = self

    def __getitem__(self, name: str) -> Row:
        if name in self.ours:
            return self.ours[name]
        if name in self._reserved:
            raise KeyError(name)
        added = self._plugins()
        row = added.get(name) or added.get(_NO_NAME)
        if row is None:
            raise KeyError(name)
        if isinstance(row, _NotLoaded):
            for unreadable in row.unreadable:  # it may be what brings the name
                raise unreadable
            row = added[name] = self.take(*row.plugins)
        return row

    def __iter__(self) -> Iterator[str]:
        yield from self.ours
        others = {*self.ours, *self._reserved, _NO_NAME}
        yield from (name for name in self._plugins() if name not in others)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # One object a process, compared without looking for plug-ins: typing hashes what a type is annotated with.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Registry({self.group!r}: {', '.join(self.ours)})"

    def take(self, plugin: Plugin, *others: Plugin) -> Row:
        """A plug-in's row. others: that have its name too. Raises PluginFailed for what cannot be used."""
        if not _NAME.match(plugin.name):
            raise plugin.failed("must be named in small letters, digits and '_'")
        if plugin.name in self._reserved:
            raise plugin.failed(f"cannot have this name: {self._reserved[plugin.name]}")
        if others or plugin.name in self.ours:
            owner = "Pocketforge itself" if plugin.name in self.ours else plugin.distribution
            raise (*others, plugin)[0].failed(f"is a row of {owner} too: two rows of one name")
        if not plugin.version:
            raise plugin.failed(
                "is of a package without METADATA, or with no Name or Version there: no key could tell it from another"
            )
        row = plugin.load()
        if not isinstance(row, self._kind):
            fault = f"({plugin.entry_point.value}) must be a {self._kind.__name__}, found a {type(row).__name__}"
            raise plugin.failed(fault)
        fault = type_fault(row) or (self._fault_of(row) if self._fault_of else "")
        if fault:
            raise plugin.failed(f"cannot be used: {fault}")
        self._brought[plugin.name] = plugin
        return self._with_library(row, plugin.distribution) if self._with_library else row

    def in_order(self, names: Collection[str]) -> list[str]:
        """Names of rows: ours as they stand here, then the others. Looks for no package, and at none of the rows."""
        return [*(name for name in self.ours if name in names), *sorted(set(names) - set(self.ours))]

    def names(self, name: str) -> bool:
        """Whether a row is called so, by what can be read alone: for words that may be a user's own."""
        return name in self.ours or name in set(self)

    def if_usable(self, name: str) -> Row | None:
        """A row for showing what was found earlier; None where its package is not here, or broken by now."""
        try:
            return self[name]
        except (KeyError, PluginFailed):
            return None

    def usable(self) -> dict[str, Row]:
        """All rows but those that are broken: for words of what there is besides, never for what a build is made of."""
        rows = dict(self.ours)
        for name in self:
            with contextlib.suppress(PluginFailed):
                rows[name] = self[name]
        return rows

    def broken(self) -> list[str]:
        """What is wrong with those that are left out of `usable`: for a hint where something was not found."""
        none = self._plugins().get(_NO_NAME)
        faults = [error.message for error in none.unreadable] if isinstance(none, _NotLoaded) else []
        for name in self:
            try:
                _ = self[name]
            except PluginFailed as error:
                faults.append(error.message)
        return faults

    def loaded(self) -> dict[str, Row]:
        """Our rows and those that were asked for so far in this process."""
        asked = {name: row for name, row in (self._added or {}).items() if not isinstance(row, _NotLoaded)}
        return {**self.ours, **asked}

    def brought_by(self, name: str) -> Plugin | None:
        """The package's that brings a row; None for a row of ours, and for a name that none has."""
        if name in self.ours or name not in self:
            return None
        return self._brought.get(name)

    def calling(
        self, name: str, part: str, *, ours: tuple[type[BaseException], ...] = (PocketforgeError,), prints: bool = False
    ) -> AbstractContextManager[None]:
        """Around code that a row names: what a plug-in's prints goes to stderr, and what it raises that is not of
        errors.py is PluginFailed with the package's name. Ours runs as it is. part: which code. prints: it is asked to
        write to stdout. ours: errors that it may raise on purpose."""
        plugin = self.brought_by(name)
        if plugin is None:
            return contextlib.nullcontext()
        return calling(f"{plugin.words} ({part}) failed", plugin.hint, ours=ours, prints=prints)

    def _plugins(self) -> dict[str, Row | _NotLoaded]:
        """All rows of installed packages, looked for once."""
        if self._added is None:
            by_name: dict[str, list[Plugin]] = {}
            found, unreadable = look(self.group)
            for plugin in found:
                by_name.setdefault(plugin.name, []).append(plugin)
            self._added = {name: _NotLoaded(tuple(plugins)) for name, plugins in by_name.items()}
            if unreadable:
                self._added[_NO_NAME] = _NotLoaded(unreadable=tuple(unreadable.values()))
        return self._added


_registries: dict[str, Registry[Any]] = {}


def registries() -> tuple[Registry[Any], ...]:
    """Those whose rooms are loaded."""
    return tuple(_registries.values())


def look(group: str = "") -> tuple[list[Plugin], dict[str, PluginFailed]]:
    """Installed packages' rows for a group, or for all under our prefix: sorted, from their metadata alone. And the
    packages that add to it by an entry_points.txt that cannot be read; what is wrong with others is nothing of ours."""
    plugins: list[Plugin] = []
    unreadable: dict[str, PluginFailed] = {}
    for package in _packages():
        if package.adds_to(group):
            try:
                plugins += (plugin for plugin in package.plugins() if group in ("", plugin.group))
            except PluginFailed as error:
                unreadable[package.name] = error
    return sorted(plugins, key=lambda plugin: (plugin.group, plugin.distribution, plugin.name)), unreadable


def examine() -> list[tuple[Plugin | str, str]]:
    """Every installed plug-in, with what is wrong with it, for `doctor`; by its name alone a package that is not
    readable."""
    import importlib

    found, unreadable = look()
    rows: list[tuple[Plugin | str, str]] = [(name, error.message) for name, error in unreadable.items()]
    owners: dict[tuple[str, str], Plugin] = {}
    for plugin in found:
        fault = ""
        try:
            if plugin.group not in GROUPS:
                raise plugin.failed(f"adds to nothing: known are {', '.join(PREFIX + group for group in GROUPS)}")
            importlib.import_module(_PLACES[plugin.group])
            first = owners.setdefault((plugin.group, plugin.name), plugin)
            _registries[plugin.group].take(first, *(() if first is plugin else (plugin,)))
        except PluginFailed as error:
            fault = error.message
        rows.append((plugin, fault))
    return rows


@dataclass(frozen=True, slots=True)
class _Package:
    """An installed package that says something under our prefix.

    Attributes:
        name: As pip knows it, or of its folder.
        text: Its entry points, as they are written.
        found: As the standard library knows it.
    """

    name: str
    text: str
    found: Distribution

    def adds_to(self, group: str) -> bool:
        return f"[{PREFIX}{group}" in self.text

    def plugins(self) -> list[Plugin]:
        """Its rows. Raises PluginFailed where the file cannot be read."""
        try:
            points = [each for each in self.found.entry_points if each.group.startswith(PREFIX)]
        except Exception as error:  # UnicodeDecodeError, and whatever a line without `=` is to the standard library
            raise PluginFailed(
                f"plug-in {self.name}: its entry_points.txt cannot be read: {first_line(error)}",
                f"pip install --force-reinstall {self.name}, or pip uninstall {self.name}",
            ) from error
        version = _said(self.found, "Version") if _said(self.found, "Name") else ""
        return [Plugin(each.group.removeprefix(PREFIX), each.name, self.name, version, each) for each in points]


def _packages() -> Iterator[_Package]:
    """Those with entry points under our prefix: of two of one name the first that Python looks into, as it does."""
    from importlib import metadata

    for each in metadata.distributions():
        try:
            text = each.read_text("entry_points.txt") or ""
        except UnicodeDecodeError as error:
            text = bytes(error.object).decode("utf-8", "replace")
        except OSError:  # what is not readable to us says nothing to us
            continue
        if f"[{PREFIX}" not in text:
            continue
        name = _said(each, "Name")
        if name and _comes_later(each, name):
            continue
        yield _Package(name or _folder_of(each), text, each)


def _comes_later(package: Distribution, name: str) -> bool:
    """Whether another one of its name is what Python finds."""
    from importlib import metadata

    try:
        first = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # its folder is called otherwise than its METADATA say
        return False
    return str(first.locate_file("")) != str(package.locate_file(""))


def _said(package: Distribution, key: str) -> str:
    """Of a package's METADATA; empty where it has none, or none that can be read."""
    try:
        return package.metadata[key] or ""
    except (KeyError, TypeError, OSError, ValueError):  # by version of Python
        return ""


def _folder_of(package: Distribution) -> str:
    """What a package without METADATA is called: `name-1.0` of its folder name-1.0.dist-info."""
    name: str = getattr(getattr(package, "_path", None), "stem", "without a name")
    return name
