"""Rows that installed packages add to our registries, without a fork of ours.

A package that brings a kind of data says so in its pyproject.toml, and is found once it is installed:

    [project.entry-points."pocketforge.sources"]
    csv = "pocketforge_csv:SOURCE"

The name is the row's, the object is the row (here a SourceInfo). Nothing is looked for before somebody asks a registry
for a name that is not ours, or for all of its names: `pocketforge --help` does neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pocketforge.errors import PluginFailed, first_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PREFIX = "pocketforge."
# What can be added to; another group under our prefix is a misspelt one, and nobody would ever read it.
GROUPS = ("runtimes", "schemes", "devices", "sources", "metrics", "report_formats")
# A row's name is a word of a recipe.
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One row of an installed package, as its metadata names it. Nothing of it is imported for this.

    Attributes:
        group: What it adds to, without our prefix: `sources`.
        name: The row's name, a word of recipes.
        distribution: The installed package's name, as pip knows it.
        version: The package's version.
        entry_point: What loads the row.
    """

    group: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def load(self) -> object:
        """What its entry point names. Raises PluginFailed when it cannot be imported."""
        try:
            return self.entry_point.load()
        except (Exception, SystemExit) as error:  # whatever the package's code does at import
            raise self.failed(f"({self.entry_point.value}) cannot be imported: {first_line(error)}") from error

    def failed(self, fault: str) -> PluginFailed:
        """The error that says what is wrong with the row, and whose it is."""
        return PluginFailed(
            f"plug-in {self.distribution} {self.version}: {PREFIX}{self.group} {self.name!r} {fault}",
            f"pip install --upgrade {self.distribution}, or pip uninstall {self.distribution}",
        )


class Registry(Mapping[str, Row], Generic[Row]):
    """Our rows and those of installed packages, by name. A row of ours is given without looking for others."""

    def __init__(
        self,
        group: str,
        kind: type[Row],
        ours: Mapping[str, Row],
        with_library: Callable[[Row, str], Row] | None = None,
    ) -> None:
        """kind: of each row. with_library: gives a row that also names a distribution among those whose versions go
        into keys; a plug-in's row is made to name its own. None: no step depends on a row."""
        if group not in GROUPS:
            raise ValueError(f"group must be one of {', '.join(GROUPS)}, found {group!r}")
        self.group = group
        self.ours = ours
        self._kind = kind
        self._with_library = with_library
        self._added: dict[str, Row] | None = None
        _registries[group] = self

    def __getitem__(self, name: str) -> Row:
        return self.ours[name] if name in self.ours else self._plugins()[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.ours
        yield from self._plugins()

    def __len__(self) -> int:
        return len(self.ours) + len(self._plugins())

    # One object a process, compared without looking for plug-ins: typing hashes what a type is annotated with.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Registry({self.group!r}: {', '.join(self.ours)})"

    def take(self, plugin: Plugin, owners: dict[str, str]) -> Row:
        """A plug-in's row. owners: of the rows so far; gets this one. Raises PluginFailed for what cannot be used."""
        if not _NAME.match(plugin.name):
            raise plugin.failed("must be named in small letters, digits and '_'")
        owner = "Pocketforge itself" if plugin.name in self.ours else owners.get(plugin.name)
        if owner:
            raise plugin.failed(f"is a row of {owner} too: two rows of one name")
        owners[plugin.name] = plugin.distribution
        row = plugin.load()
        if not isinstance(row, self._kind):
            fault = f"({plugin.entry_point.value}) must be a {self._kind.__name__}, found a {type(row).__name__}"
            raise plugin.failed(fault)
        return self._with_library(row, plugin.distribution) if self._with_library else row

    def _plugins(self) -> dict[str, Row]:
        """All rows of installed packages, looked for once. Raises PluginFailed for one that cannot be used."""
        if self._added is None:
            owners: dict[str, str] = {}
            self._added = {plugin.name: self.take(plugin, owners) for plugin in installed(self.group)}
        return self._added


_registries: dict[str, Registry[Any]] = {}


def registries() -> tuple[Registry[Any], ...]:
    """Those whose rooms are loaded."""
    return tuple(_registries.values())


def installed(group: str = "") -> list[Plugin]:
    """Installed packages' rows for a group, or for all under our prefix: sorted, from their metadata alone."""
    from importlib import metadata

    every = metadata.entry_points()
    groups = [PREFIX + group] if group else [name for name in every.groups if name.startswith(PREFIX)]
    plugins = [
        Plugin(name.removeprefix(PREFIX), each.name, each.dist.name, each.dist.version, each)
        for name in groups
        for each in every.select(group=name)
        if each.dist is not None
    ]
    return sorted(plugins, key=lambda plugin: (plugin.group, plugin.distribution, plugin.name))


def examine() -> list[tuple[Plugin, str]]:
    """Every installed plug-in, with what is wrong with it, for `doctor`."""
    owners: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    rows = []
    for plugin in installed():
        fault = ""
        try:
            if plugin.group not in GROUPS:
                raise plugin.failed(f"adds to nothing: known are {', '.join(PREFIX + group for group in GROUPS)}")
            registry = _registries.get(plugin.group)
            if registry is None:  # of a room that is not loaded here
                plugin.load()
            else:
                registry.take(plugin, owners[plugin.group])
        except PluginFailed as error:
            fault = error.message
        rows.append((plugin, fault))
    return rows
