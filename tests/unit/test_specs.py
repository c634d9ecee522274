"""What a stage is told is in its step's key, to the last field: no other value of any of them gives an equal key."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from pocketforge import specs
from pocketforge.specs.base import Spec


def every_spec() -> list[type[Spec]]:
    names = (f"{specs.__name__}.{found.name}" for found in pkgutil.iter_modules(specs.__path__))
    rooms = [vars(importlib.import_module(name)).values() for name in names]
    kinds = {each for room in rooms for each in room if isinstance(each, type) and issubclass(each, Spec)}
    return sorted(kinds - {Spec}, key=lambda kind: kind.__name__)


def values(hint: Any) -> Iterator[Any]:
    """Different values of a type: of a dataclass one by default, and one with each field changed."""
    origin, within = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        yield from instances(hint)
    elif origin in (Union, types.UnionType):
        for each in within:
            yield from values(each)
    elif origin is Literal:
        yield from within
    elif origin is tuple:
        yield from ((), *((each,) for each in values(within[0])))
    elif origin is not None and issubclass(origin, Mapping):
        yield from ({}, *({"a": each} for each in values(within[1])))
    elif hint in (Any, object):
        yield from (0, 0.0, False, None, "", [0], {"b": 0})
    elif hint is types.NoneType:
        yield None
    else:
        yield from {str: ("a", "b"), int: (1, 2), float: (0.5, 0.25), bool: (False, True)}[hint]


def instances(kind: Any) -> Iterator[Any]:
    """Past its rules: which values go together does not matter here."""
    hints = get_type_hints(kind)
    every = {field.name: list(values(hints[field.name])) for field in dataclasses.fields(kind)}
    base = {name: of_field[0] for name, of_field in every.items()}
    yield unchecked(kind, base)
    for name, of_field in every.items():
        yield from (unchecked(kind, {**base, name: value}) for value in of_field[1:])


def unchecked(kind: Any, fields: Mapping[str, Any]) -> Any:
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize("kind", every_spec(), ids=lambda kind: kind.__name__)
def test_no_two_specs_are_one_in_a_key(kind: type[Spec]) -> None:
    written = [json.dumps(spec.to_json(), sort_keys=True, allow_nan=False) for spec in instances(kind)]
    assert len(written) > len(dataclasses.fields(kind))
    assert len(written) == len(set(written))
