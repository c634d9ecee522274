"""A step's JSON file ↔ its dataclass, checked at the border.

The rules are in `structure`, with cattrs: imported at the first use, since many only name an outcome.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pocketforge.errors import StageFailed
from pocketforge.files import json_text


class OutcomeFile(Protocol):
    """A frozen dataclass that one file of a step's folder holds. FILE: that file's name.

    A class with OMIT_UNSET = True, here or inside, leaves out the keys of fields that have their default. Of one with
    FLAT, the keys of the field that it names stand beside the others, not inside. One with ALWAYS wants these keys in
    its JSON, also where their fields have a default.
    """

    FILE: ClassVar[str]


# Beyond any figure, and still a number that every reader of JSON takes.
_LARGEST = 1e308

Kind = TypeVar("Kind", bound=OutcomeFile)
Part = TypeVar("Part")


def read(folder: Path, kind: type[Kind]) -> Kind:
    """What `folder` holds of `kind`. Raises StageFailed, with the key that is wrong, and OSError."""
    path = folder / kind.FILE
    try:
        return from_json(json.loads(path.read_text("utf-8")), kind)
    except (ValueError, KeyError, RecursionError) as error:
        raise StageFailed(
            f"{path} does not hold what a stage writes: {error}",
            "run it again: pocketforge build RECIPE --refresh",
        ) from error


def write(folder: Path, outcome: OutcomeFile) -> None:
    """Write it into `folder`. The same outcome gives the same bytes."""
    (folder / outcome.FILE).write_text(json_text(_finite(to_json(outcome))), "utf-8")


def to_json(outcome: Any) -> Any:
    """As it stands in a file, and in a report."""
    from pocketforge.outcomes import structure

    return structure.to_json(outcome)


def from_json(value: object, kind: type[Part]) -> Part:
    """The inverse of `to_json`, for JSON and TOML. Raises ValueError with every key that is wrong."""
    from pocketforge.outcomes import structure

    return structure.from_json(value, kind)


def finite(value: float) -> float:
    """The number as JSON can say it, which has no infinity and no NaN: the largest numbers stand for them."""
    if math.isfinite(value):
        return value
    return -_LARGEST if math.isnan(value) else math.copysign(_LARGEST, value)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
