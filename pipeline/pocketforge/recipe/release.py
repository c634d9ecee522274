"""What a release says of itself: its version, and what its model card and bill of materials cannot find out."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

_VERSION = re.compile(r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){0,3}", re.ASCII)
_MOST_LETTERS = 4000


@dataclass(frozen=True, slots=True)
class Release:
    """Table `[release]`. What is left out is not said anywhere.

    Attributes:
        version: One to four whole numbers with dots between; each release of an app has a higher one.
        description: What the model does.
        license: Of the model: an SPDX expression, or a licence's name.
        data_license: Of the data that it was trained and judged on.
        intended_use: What it is meant for.
        limitations: What it is not good at.
    """

    version: str = ""
    description: str = ""
    license: str = ""
    data_license: str = ""
    intended_use: str = ""
    limitations: str = ""

    def __post_init__(self) -> None:
        if self.version and not _VERSION.fullmatch(self.version):
            raise ValueError(
                f"version must be one to four whole numbers with dots between, as 1.4.0, found {self.version!r}"
            )
        for field in dataclasses.fields(self):
            length = len(getattr(self, field.name))
            if length > _MOST_LETTERS:
                raise ValueError(f"{field.name} must have at most {_MOST_LETTERS:,} letters, found {length:,}")


def version_order(version: str) -> tuple[int, ...]:
    """By which versions are compared: 1.10 is after 1.9, and 1.4 is 1.4.0. Raises ValueError for what is none."""
    if not _VERSION.fullmatch(version):
        raise ValueError(f"no version: {version!r}")
    numbers = [int(number) for number in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))
