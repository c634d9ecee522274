"""A step's JSON file ↔ its dataclass, checked at the border."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import cattrs

from pocketforge.errors import StageFailed


class Outcome(Protocol):
    """A frozen dataclass that one file of a step's folder holds. FILE: that file's name."""

    FILE: ClassVar[str]


Kind = TypeVar("Kind", bound=Outcome)


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
    text = json.dumps(_converter().unstructure(outcome), indent=1, sort_keys=True)
    (folder / outcome.FILE).write_text(text, "utf-8")


def to_json(outcome: Any) -> Any:
    """As it stands in a file, and in a report."""
    return _converter().unstructure(outcome)


@functools.cache
def _converter() -> cattrs.Converter:
    # A missing key is a fault, unless its field has a default; so is one that no field is of.
    converter = cattrs.Converter(forbid_extra_keys=True)
    for plain in (str, int, bool, float):
        converter.register_structure_hook(plain, functools.partial(_exact, wanted=plain))
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    return converter


def _exact(value: Any, _: Any, wanted: type) -> Any:
    """Values of the type itself: "8.7" is not 8, 1 is not true. A whole number is a float too."""
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"wanted {wanted.__name__}, found {type(value).__name__}")
    return value
