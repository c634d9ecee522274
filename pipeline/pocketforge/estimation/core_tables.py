"""core_models/*.toml as they are written: checked, with what a file takes over from the one that it is `like`.

A file may be `like` another one and give only what differs; a group that it gives replaces the other file's whole
entry. Every figure names a source: a key of [sources], whose words stand in its place once the file is read.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.outcomes.files import from_json

FOLDER = Path(__file__).parent / "core_models"
ORDERS = ("in-order", "out-of-order")


@dataclass(frozen=True, slots=True)
class Wide:
    """What the 128-bit form of a group has otherwise; None: as the 64-bit form.

    Attributes:
        uses: As `Group.uses`.
        latency: As `Group.latency`.
        accumulate: As `Group.accumulate`.
        cycles: As `Group.cycles`.
        each: As `Group.each`.
        alone: As `Group.alone`.
    """

    uses: tuple[str, ...] | None = None
    latency: int | None = None
    accumulate: int | None = None
    cycles: int | None = None
    each: bool | None = None
    alone: bool | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What the instructions of one group take.

    Attributes:
        uses: Pipes, or units by name: one of each for `cycles`.
        latency: Cycles to a dependent instruction.
        accumulate: Cycles to the accumulator of the next one of the group; None: the latency.
        cycles: How long each pipe is kept.
        each: Whether `cycles` are for each register that is moved.
        alone: Nothing else issues meanwhile (in-order cores).
        wide: What the 128-bit form has otherwise.
        source: In the file a key of [sources], empty for that of [defaults]; then the source in words.
    """

    uses: tuple[str, ...]
    latency: int
    accumulate: int | None = None
    cycles: int = 1
    each: bool = False
    alone: bool = False
    wide: Wide = Wide()
    source: str = ""

    def of_128_bits(self) -> Group:
        """The 128-bit form as a group of its own."""
        other = {each.name: getattr(self.wide, each.name) for each in dataclasses.fields(Wide)}
        return dataclasses.replace(self, **{key: value for key, value in other.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Defaults:
    """[defaults].

    Attributes:
        source: A key of [sources], for groups that name none.
    """

    source: str = ""


@dataclass(frozen=True, slots=True)
class Tables:
    """One file, or several put together.

    Attributes:
        name: The core type, as device profiles call it.
        title: As people call it.
        order: One of ORDERS.
        nearest: The core type whose fitted parameters serve where this one has none.
        width: Instructions that enter (in order: start) a cycle; 0 where another file says it.
        window: Instructions in flight; 1 where nothing says it: in-order cores have none.
        like: The core type that has all that is not said here; empty for none.
        sources: Key → "status: source".
        front: "width" and "window" → a key of [sources] in the file, then the source in words.
        defaults: What groups have that do not say it.
        units: Pipe → how many there are alike.
        pipes: Name of a set of pipes → these.
        groups: Instruction group → what it takes.
    """

    name: str
    title: str
    order: str
    nearest: str
    width: int = 0
    window: int = 1
    like: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    front: Mapping[str, str] = field(default_factory=dict)
    defaults: Defaults = Defaults()
    units: Mapping[str, int] = field(default_factory=dict)
    pipes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)


def core_names() -> tuple[str, ...]:
    """Every core type with tables."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def read_tables(name: str) -> Tables:
    """A core type's tables, whole. Raises RecipeError with all that is wrong with them."""
    tables = _whole(name)
    if faults := list(_faults(tables)):
        raise RecipeError(f"the tables of {name} are wrong", faults=faults)
    return tables


def _whole(name: str) -> Tables:
    """A file with its sources in words, and with what the one that it is like has besides."""
    own = _with_words(_parsed(name))
    if not own.like:
        return own
    other = _whole(own.like)
    taken_over = {
        group: entry if " as " in entry.source else dataclasses.replace(entry, source=f"{entry.source} as {own.like}")
        for group, entry in other.groups.items()
    }
    return dataclasses.replace(
        own,
        width=own.width or other.width,
        window=own.window if own.window != 1 else other.window,
        front={**other.front, **own.front},
        units={**other.units, **own.units},
        pipes={**other.pipes, **own.pipes},
        groups={**taken_over, **own.groups},
    )


def _parsed(name: str) -> Tables:
    try:
        return from_json(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")), Tables)
    except ValueError as error:
        raise RecipeError(f"the tables of {name} are wrong: {error}") from error


def _with_words(tables: Tables) -> Tables:
    groups = {}
    for name, group in tables.groups.items():
        key = group.source or tables.defaults.source
        groups[name] = dataclasses.replace(group, source=tables.sources.get(key, ""))
        if not groups[name].source:
            raise RecipeError(f"{tables.name}.toml: group {name} has no source (key {key!r})")
    return dataclasses.replace(
        tables, groups=groups, front={what: tables.sources.get(key, "") for what, key in tables.front.items()}
    )


def _faults(tables: Tables) -> Iterator[str]:
    if tables.order not in ORDERS:
        yield f"order: wanted one of {', '.join(ORDERS)}, found {tables.order!r}"
    in_order = tables.order == "in-order"
    for what, value, least in (("width", tables.width, 1), ("window", tables.window, 1 if in_order else 2)):
        if value < least:
            yield f"{what}: wanted a whole number of at least {least}, found {value!r}"
        if not tables.front.get(what) and not (in_order and what == "window"):
            yield f"front.{what}: no source"
    if tables.nearest not in core_names() or tables.nearest == tables.name:
        yield f"nearest: wanted another core type, found {tables.nearest!r}"
    # Where a pipe has nothing that could be free, no instruction would ever start.
    yield from (
        f"units.{unit}: wanted a whole number of at least 1, found {n!r}" for unit, n in tables.units.items() if n < 1
    )
    for pipe, members in tables.pipes.items():
        if not members:
            yield f"pipes.{pipe}: wanted at least one unit, found none"
        yield from (f"pipes.{pipe}: no unit {unit!r}" for unit in members if unit not in tables.units)
    known = {*tables.units, *tables.pipes}
    for name, group in tables.groups.items():
        named = dict.fromkeys((*group.uses, *group.of_128_bits().uses))
        yield from (f"groups.{name}: no pipe {pipe!r}" for pipe in named if pipe not in known)
        if group.latency < 0:
            yield f"groups.{name}.latency: wanted a whole number, found {group.latency!r}"
