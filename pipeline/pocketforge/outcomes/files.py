"""A step's JSON file ↔ its dataclass, checked at the border."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import cattrs
from cattrs.gen import make_dict_unstructure_fn

from pocketforge.errors import StageFailed
from pocketforge.files import json_text


class Outcome(Protocol):
    """A frozen dataclass that one file of a step's folder holds. FILE: that file's name.

    A class with OMIT_UNSET = True, here or inside, leaves out the keys of fields that have their default.
    """

    FILE: ClassVar[str]


# Beyond any figure, and still a number that every reader of JSON takes.
_LARGEST = 1e308

Kind = TypeVar("Kind", bound=Outcome)
Part = TypeVar("Part")


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


def from_json(value: object, kind: type[Part]) -> Part:
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
    return converter


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
