"""A step's JSON file ↔ its dataclass, checked at the border."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from pocketforge.errors import StageFailed
from pocketforge.files import json_text


class Outcome(Protocol):
    """A frozen dataclass that one file of a step's folder holds. FILE: that file's name.

    A class with OMIT_UNSET = True, here or inside, leaves out the keys of fields that have their default. Of one with
    FLAT, the keys of the field that it names stand beside the others, not inside.
    """

    FILE: ClassVar[str]


# Beyond any figure, and still a number that every reader of JSON takes.
_LARGEST = 1e308

Kind = TypeVar("Kind", bound=Outcome)
Piece = TypeVar("Piece")


def read(folder: Path, kind: type[Kind]) -> Kind:
    """What `folder` holds of `kind`. Raises StageFailed, with the key that is wrong, and OSError."""
    path = folder / kind.FILE
    try:
        return _converter().structure(json.loads(path.read_text("utf-8")), kind)
    except (cattrs.BaseValidationError, ValueError, TypeError, KeyError) as error:
        wrong = "; ".join(cattrs.transform_error(error)) if isinstance(error, cattrs.BaseValidationError) else error
        raise StageFailed(
            f"{path} does not hold what a stage writes: {wrong}", "run it again: pocketforge build RECIPE --refresh"
        ) from error


def write(folder: Path, outcome: Outcome) -> None:
    """Write it into `folder`. The same outcome gives the same bytes."""
    (folder / outcome.FILE).write_text(json_text(_finite(_converter().unstructure(outcome))), "utf-8")


def to_json(outcome: Any) -> Any:
    """As it stands in a file, and in a report."""
    return _converter().unstructure(outcome)


def from_json(value: object, kind: type[Piece]) -> Piece:
    """The inverse of `to_json`, for JSON and TOML. Raises ValueError with every key that is wrong."""
    try:
        return _converter().structure(value, kind)
    except cattrs.BaseValidationError as error:
        raise ValueError("; ".join(cattrs.transform_error(error))) from None
    except (AttributeError, TypeError) as error:  # a list or a word, where a table is wanted
        raise ValueError(f"wanted the keys of {kind.__name__}, found {type(value).__name__}: {error}") from None


@functools.cache
def _converter() -> cattrs.Converter:
    # A missing key is a fault, unless its field has a default; so is one that no field is of.
    converter = cattrs.Converter(forbid_extra_keys=True)
    for plain in (str, int, bool, float):
        converter.register_structure_hook(plain, functools.partial(_exact, wanted=plain))
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    converter.register_unstructure_hook_factory(
        lambda kind: getattr(kind, "OMIT_UNSET", False) is True,
        lambda kind: make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True),
    )
    _add_flat(converter)
    return converter


def _add_flat(converter: cattrs.Converter) -> None:
    """Classes with FLAT."""

    def to_json(kind: Any) -> Any:
        plain = make_dict_unstructure_fn(kind, converter)

        def flattened(outcome: Any) -> dict[str, Any]:
            values = plain(outcome)
            within: dict[str, Any] = values.pop(kind.FLAT)
            return within | values

        return flattened

    def from_json(kind: Any) -> Any:
        plain = make_dict_structure_fn(kind, converter)
        own = {field.name for field in dataclasses.fields(kind)} - {kind.FLAT}

        def gathered(values: Mapping[str, Any], _: Any) -> Any:
            within = {key: value for key, value in values.items() if key not in own}
            return plain({**{key: values[key] for key in values if key in own}, kind.FLAT: within}, kind)

        return gathered

    converter.register_unstructure_hook_factory(lambda kind: hasattr(kind, "FLAT"), to_json)
    converter.register_structure_hook_factory(lambda kind: hasattr(kind, "FLAT"), from_json)


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: the largest numbers stand for them; NaN is the worst."""
    if isinstance(value, float) and not math.isfinite(value):
        return -_LARGEST if math.isnan(value) else math.copysign(_LARGEST, value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _exact(value: Any, _: Any, wanted: type) -> Any:
    """Values of the type itself: "8.7" is not 8, 1 is not true. A whole number is a float too."""
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"wanted {wanted.__name__}, found {type(value).__name__}")
    return value
