"""One core type's tables: width, execution pipes, and per instruction group the pipes it takes and its latency.

The figures are data (`core_models/*.toml`), each with a source. A file may be `like` another one and give only what
differs; a group that it gives replaces the other file's whole entry.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.errors import RecipeError
from pocketforge.estimation.instruction import Instruction

FOLDER = Path(__file__).parent / "core_models"
ORDERS = ("in-order", "out-of-order")
_GROUP_KEYS = frozenset({"uses", "latency", "accumulate", "cycles", "each", "alone", "wide", "source"})
_KEYS = frozenset(
    {"name", "title", "like", "nearest", "order", "width", "window"}
    | {"sources", "front", "units", "pipes", "defaults", "groups"}
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one instruction takes: for each of `uses`, one of those units for `cycles`; its result after `latency`.

    `accumulate` is the latency to the accumulator of the next instruction of the same group; `alone` means that
    nothing else issues while it does (in-order cores).
    """

    uses: tuple[tuple[int, ...], ...]
    latency: int
    accumulate: int
    cycles: int
    alone: bool


@dataclass(frozen=True, slots=True)
class CoreModel:
    """The tables of one core type. `units` are named pipes; costs refer to them by index."""

    name: str
    title: str
    in_order: bool
    nearest: str  # the core type whose fitted parameters serve where this one has none
    width: int
    window: int
    units: tuple[str, ...]
    narrow: Mapping[str, tuple[Cost, bool]]  # group → cost of the 64-bit form, and whether it is per register moved
    wide: Mapping[str, tuple[Cost, bool]]
    sources: Mapping[str, str]  # "fp_mac", "width", "window" … → "status: source"

    def cost(self, instruction: Instruction) -> Cost:
        """The cost of an instruction; an unknown one is charged as a plain ALU instruction."""
        table = self.wide if instruction.wide else self.narrow
        cost, each = table.get(instruction.group) or self.narrow["alu"]
        if not each or instruction.registers == 1:
            return cost
        return Cost(cost.uses, cost.latency, cost.accumulate, cost.cycles * instruction.registers, cost.alone)


def core_names() -> tuple[str, ...]:
    """Every core type with tables."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@functools.cache
def load_core(name: str) -> CoreModel:
    """The tables of a core type, by the name that device profiles use. Raises RecipeError for an unknown one."""
    if name not in core_names():
        raise RecipeError(
            f"no pipeline tables for the core {name!r}",
            hint=f"core types that can be estimated: {', '.join(core_names())}",
        )
    data = _merged(name)
    faults = _faults(data)
    if faults:
        raise RecipeError(f"the tables of {name} are wrong", faults=faults)
    return _build(data)


def tables_digest() -> str:
    """SHA-256 of all tables: part of what an estimate was made with."""
    whole = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.toml")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def _merged(name: str) -> dict[str, Any]:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    default = data.get("defaults", {}).get("source", "")
    own = {key: data.get("sources", {}).get(key, "") for key in data.get("sources", {})}
    for group, entry in data.get("groups", {}).items():
        key = entry.pop("source", default)
        entry["said_by"] = own.get(key, "")
        if not entry["said_by"]:
            raise RecipeError(f"{name}.toml: group {group} has no source (key {key!r})")
    data["front"] = {what: own.get(key, "") for what, key in data.get("front", {}).items()}
    if "like" not in data:
        return data
    other = _merged(data["like"])
    merged = {**other, **{k: v for k, v in data.items() if k not in ("units", "pipes", "groups", "front")}}
    for key in ("units", "pipes", "groups", "front"):
        merged[key] = {**other.get(key, {}), **data.get(key, {})}
    for group in set(merged["groups"]) - set(data.get("groups", {})):
        entry = dict(merged["groups"][group])
        if " as " not in entry["said_by"]:
            entry["said_by"] = f"{entry['said_by']} as {data['like']}"
        merged["groups"][group] = entry
    return merged


def _faults(data: Mapping[str, Any]) -> list[str]:
    found = [f"unknown key {key!r}" for key in sorted(set(data) - _KEYS)]
    if data.get("order") not in ORDERS:
        found.append(f"order: wanted one of {', '.join(ORDERS)}, found {data.get('order')!r}")
    for key in ("width", *(() if data.get("order") == "in-order" else ("window",))):
        if type(data.get(key)) is not int or data[key] < 1:
            found.append(f"{key}: wanted a whole number above 0, found {data.get(key)!r}")
        if not data["front"].get(key):
            found.append(f"front.{key}: no source")
    if data.get("nearest") not in core_names() or data.get("nearest") == data["name"]:
        found.append(f"nearest: wanted another core type, found {data.get('nearest')!r}")
    known = set(data["units"]) | set(data["pipes"])
    for pipe, members in data["pipes"].items():
        found += [f"pipes.{pipe}: no unit {unit!r}" for unit in members if unit not in data["units"]]
    for group, entry in data["groups"].items():
        for part in (entry, entry.get("wide", {})):
            found += [f"groups.{group}: no pipe {pipe!r}" for pipe in part.get("uses", ()) if pipe not in known]
            found += [f"groups.{group}: unknown key {k!r}" for k in part if k not in _GROUP_KEYS | {"said_by"}]
        if type(entry.get("latency")) is not int or entry["latency"] < 0:
            found.append(f"groups.{group}.latency: wanted a whole number, found {entry.get('latency')!r}")
    return found


def _build(data: Mapping[str, Any]) -> CoreModel:
    units = tuple(f"{unit}.{n}" if count > 1 else unit for unit, count in data["units"].items() for n in range(count))

    def members(pipe: str) -> tuple[int, ...]:
        names = data["pipes"].get(pipe, [pipe])
        return tuple(i for i, unit in enumerate(units) if unit.split(".")[0] in names)

    def cost(entry: Mapping[str, Any]) -> tuple[Cost, bool]:
        latency = entry["latency"]
        made = Cost(
            uses=tuple(members(pipe) for pipe in entry["uses"]),
            latency=latency,
            accumulate=entry.get("accumulate", latency),
            cycles=entry.get("cycles", 1),
            alone=entry.get("alone", False),
        )
        return made, entry.get("each", False)

    narrow = {group: cost(entry) for group, entry in data["groups"].items()}
    wide = {group: cost({**entry, **entry.get("wide", {})}) for group, entry in data["groups"].items()}
    return CoreModel(
        name=data["name"],
        title=data["title"],
        in_order=data["order"] == "in-order",
        nearest=data["nearest"],
        width=data["width"],
        window=data.get("window", 1),
        units=units,
        narrow=narrow,
        wide=wide,
        sources={**data["front"], **{group: entry["said_by"] for group, entry in data["groups"].items()}},
    )
