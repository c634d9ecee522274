"""Tables of facts in TOML: each `{ value = …, status = "measured" | "published" | "believed", source = "…" }`.

Strict: every fault is gathered, with its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pocketforge.devices.profiles import FactSource, Status
from pocketforge.recipe import suggest

_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "an array",
}

# A table of TOML, whose values are of any kind until they are looked at.
Table = dict[str, Any]
# Field → (type, lowest, highest).
Kinds = Mapping[str, tuple[type, float, float]]


class FactReader:
    """Reads tables of facts and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def facts(self, table: Table, kinds: Kinds, where: str) -> tuple[Table, dict[str, FactSource]]:
        values, sources = {}, {}
        for key, kind in kinds.items():
            path = f"{where}.{key}".lstrip(".")
            fact = table.get(key)
            if key not in table:
                self.faults.append(f"{path}: missing")
            elif not isinstance(fact, dict):
                self.faults.append(f"{path}: {mismatch('{ value = …, status = …, source = … }', fact)}")
            else:
                before = len(self.faults)
                self.keys(fact, ("value", "status", "source"), path)
                status, source = self.text(fact, "status", path), self.text(fact, "source", path)
                if status and status not in get_args(Status):
                    self.faults.append(f"{path}.status: unknown value {status!r}{suggest(status, get_args(Status))}")
                value = self._value(fact, kind, path)
                if len(self.faults) == before:
                    values[key], sources[key] = value, FactSource(status, source)  # type: ignore[arg-type]
        return values, sources

    def _value(self, fact: Table, kind: tuple[type, float, float], path: str) -> object:
        type_, low, high = kind
        if type_ is str:
            return self.text(fact, "value", path)
        if "value" not in fact:
            self.faults.append(f"{path}.value: missing")
            return None
        value = fact["value"]
        if type_ is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not type_:
            self.faults.append(f"{path}.value: {mismatch(_WORDS[type_], value)}")
        elif isinstance(value, int | float) and type_ is not bool and not low <= value <= high:  # nan never is
            self.faults.append(f"{path}.value: wanted {low:g} to {high:g}, found {value}")
        return value

    def text(self, table: Table, key: str, where: str) -> str:
        path = f"{where}.{key}".lstrip(".")
        if key not in table:
            self.faults.append(f"{path}: missing")
        elif type(table[key]) is not str:
            self.faults.append(f"{path}: {mismatch('a string', table[key])}")
        elif not table[key].strip() or not table[key].isprintable():
            self.faults.append(f"{path}: wanted a line of text, found {table[key]!r}")
        else:
            return str(table[key])
        return ""

    def keys(self, table: Table, known: Iterable[str], where: str) -> None:
        for key in sorted(set(table) - set(known)):
            self.faults.append(f"{where}.{key}".lstrip(".") + f": unknown key{suggest(key, known)}")


def mismatch(wanted: str, value: object) -> str:
    shown = repr(value) if isinstance(value, str | int | float | bool) else ""
    kind = _WORDS.get(type(value), f"a {type(value).__name__}")
    return f"wanted {wanted}, found {kind} {shown}".rstrip()
