"""Whether a row's fields are of the types that its class says: `libraries = ("numpy")` is a text, not a tuple."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping

_SHOWN_LETTERS = 60
# What stands for what: an integer is a number, and True is none.
_PLAIN: dict[object, tuple[type, ...]] = {
    str: (str,),
    bytes: (bytes,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    types.NoneType: (types.NoneType,),
}


def type_fault(row: object) -> str:
    """The first field of a dataclass whose value is of another type, in words; empty when there is none."""
    assert dataclasses.is_dataclass(row)
    hints = typing.get_type_hints(type(row))
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if not _fits(value, hints[field.name]):
            wanted = str(hints[field.name]).replace("typing.", "").replace("collections.abc.", "")
            wanted = hints[field.name].__name__ if isinstance(hints[field.name], type) else wanted
            return f"{field.name}: wanted {wanted}, found {repr(value)[:_SHOWN_LETTERS]}"
    return ""


def _fits(value: object, hint: object) -> bool:
    """Hints that rows have; of any other the value may be what it is."""
    if plain := _PLAIN.get(hint):
        return isinstance(value, plain) and (isinstance(value, bool) is (hint is bool))
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, each) for each in inner)
    if origin in (tuple, frozenset):
        return isinstance(value, origin) and all(_fits(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    return hint is typing.Any or not isinstance(hint, type) or isinstance(value, hint)
