"""JSON ↔ dataclasses, by cattrs: the rules that every file of a step and every report is read and written by."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn
from cattrs.v import format_exception

from pocketforge.files import not_finite

Part = TypeVar("Part")
# A type as fields are annotated with it (a class, a union, a tuple of one); and what cattrs calls for it.
Hint = Any
Hook = Callable[..., object]


def to_json(outcome: Any) -> Any:
    """As `outcomes.files.to_json`."""
    return _converter().unstructure(outcome)


def from_json(value: object, kind: type[Part]) -> Part:
    """As `outcomes.files.from_json`."""
    try:
        return _converter().structure(value, kind)
    except cattrs.BaseValidationError as error:
        raise ValueError(_fault(error)) from None
    except (AttributeError, TypeError) as error:  # a list or a word, where a table is wanted
        raise ValueError(f"wanted the keys of {kind.__name__}, found {type(value).__name__}: {error}") from None


def _fault(error: cattrs.BaseValidationError) -> str:
    return "; ".join(cattrs.transform_error(error, format_exception=_in_words))


def _in_words(error: BaseException, kind: type | None) -> str:
    """cattrs has no words of the class's own rules, and none of where an unknown key may come from."""
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return f"keys that this version does not know ({', '.join(sorted(error.extra_fields))})"
    return str(error) if type(error) in (TypeError, ValueError) else format_exception(error, kind)


@functools.cache
def _converter() -> cattrs.Converter:
    # A missing key is a fault, unless its field has a default; so is one that no field is of.
    converter = cattrs.Converter(forbid_extra_keys=True)
    for plain in (str, int, bool, float):
        converter.register_structure_hook(plain, functools.partial(_exact, wanted=plain))
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: _plain(value))
    converter.register_structure_hook_func(_is_plain_choice, _one_of)
    converter.register_unstructure_hook_factory(
        lambda kind: getattr(kind, "OMIT_UNSET", False) is True,
        lambda kind: make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True),
    )
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _of_list(kind, converter))
    converter.register_structure_hook_func(_is_choice, lambda value, kind: _chosen(value, kind, converter))
    converter.register_structure_hook_factory(
        lambda kind: hasattr(kind, "ALWAYS"), lambda kind: _whole(kind, converter)
    )
    _add_flat(converter)
    return converter


def _whole(kind: Hint, converter: cattrs.Converter) -> Hook:
    """Reads a class with ALWAYS."""
    plain = make_dict_structure_fn(kind, converter)

    def structured(values: Mapping[str, object], _: object) -> object:
        missing = sorted(kind.ALWAYS - set(values))
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return plain(values, kind)

    return structured


def _is_tuple(kind: Hint) -> bool:
    origin: object = get_origin(kind)
    return origin is tuple


def _of_list(kind: Hint, converter: cattrs.Converter) -> Hook:
    """Reads a tuple from a list alone: a text is no list of its letters."""
    parts = get_args(kind)
    alike, as_list = parts[-1] is Ellipsis, cast("Hint", types.GenericAlias(list, parts[:1]))

    def structured(values: object, _: object) -> object:
        if not isinstance(values, list | tuple):
            raise TypeError(f"wanted a list, found {type(values).__name__}")
        if alike and parts[0] is float and {*map(type, values)} == {float} and all(map(math.isfinite, values)):
            return tuple(values)  # thousands of timed inferences: `_exact` for each has nothing to add
        if alike:
            return tuple(converter.structure(values, as_list))
        if len(values) != len(parts):
            raise ValueError(f"wanted {len(parts)} values, found {len(values)}")
        return tuple(converter.structure(value, part) for value, part in zip(values, parts, strict=True))

    return structured


def _is_choice(kind: Hint) -> bool:
    """Whether a type is one of several dataclasses, or none."""
    choices = [each for each in get_args(kind) if each is not types.NoneType]
    origin: object = get_origin(kind)
    return origin in (Union, types.UnionType) and len(choices) > 1 and all(map(is_dataclass, choices))


def _is_plain_choice(kind: Hint) -> bool:
    """Whether a type is one of several plain ones: `str | float`."""
    origin: object = get_origin(kind)
    return origin in (Union, types.UnionType) and set(get_args(kind)) <= {str, int, bool, float}


def _one_of(value: object, kind: Hint) -> object:
    if type(value) not in get_args(kind):
        raise TypeError(f"wanted one of {', '.join(each.__name__ for each in get_args(kind))}, found {value!r}")
    return value


def _chosen(value: object, kind: Hint, converter: cattrs.Converter) -> object:
    """By its keys: the first of the classes that wants no other and takes all of them; else the last, which says what
    is wrong."""
    choices = get_args(kind)
    if value is None and types.NoneType in choices:
        return None
    choices = tuple(each for each in choices if each is not types.NoneType)
    keys = set(value) if isinstance(value, Mapping) else set()
    for each in choices[:-1]:
        known = dataclasses.fields(each)
        needed = {f.name for f in known if f.default is MISSING and f.default_factory is MISSING}
        if needed <= keys and (hasattr(each, "FLAT") or keys <= {f.name for f in known}):
            return converter.structure(value, each)
    return converter.structure(value, choices[-1])


def _add_flat(converter: cattrs.Converter) -> None:
    """Classes with FLAT."""

    def to_json(kind: Hint) -> Hook:
        plain = make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=getattr(kind, "OMIT_UNSET", False))

        def flattened(outcome: object) -> dict[str, object]:
            values = plain(outcome)
            return {**values.pop(kind.FLAT, {}), **values}

        return flattened

    def from_json(kind: Hint) -> Hook:
        plain = make_dict_structure_fn(kind, converter)
        own = {field.name for field in dataclasses.fields(kind)} - {kind.FLAT}

        def gathered(values: object, _: object) -> object:
            if not isinstance(values, Mapping):
                raise TypeError(f"wanted a table, found {type(values).__name__}")
            within = {key: value for key, value in values.items() if key not in own}
            return plain({**{key: values[key] for key in values if key in own}, kind.FLAT: within}, kind)

        return gathered

    converter.register_unstructure_hook_factory(lambda kind: hasattr(kind, "FLAT"), to_json)
    converter.register_structure_hook_factory(lambda kind: hasattr(kind, "FLAT"), from_json)


def _exact(value: object, _: object, wanted: type) -> object:
    """Values of the type itself: "8.7" is not 8, 1 is not true. A whole number is a float too; NaN and infinity, which
    Python's JSON has and no other, are none."""
    if wanted is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("wanted a finite number, found one beyond any float") from None
    if type(value) is not wanted:
        raise TypeError(f"wanted {wanted.__name__}, found {type(value).__name__}")
    return _plain(value) if wanted is float else value


def _plain(value: object) -> object:
    """Any JSON as it is. Raises ValueError, with the place, where a number in it is none."""
    place = not_finite(value)
    if place is not None:
        raise ValueError(f"wanted a finite number{f' at {place}' if place else ''}, found NaN or an infinity")
    return value
