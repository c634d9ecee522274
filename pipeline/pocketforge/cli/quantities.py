"""Numbers with units, as options take them."""

from __future__ import annotations

import re

import click

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_MOST = 1e18


class Quantity(click.ParamType[float]):
    """A number with a unit, as in 30d or 5GB."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name = name
        self.units = units
        self.example = example

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", str(value).strip())
        if not match or match[2].lower() not in self.units:
            self.fail(f"wanted a number and a unit, as in {self.example}; found {value!r}", param, ctx)
        number = float(match[1]) * self.units[match[2].lower()]
        if number > _MOST:
            self.fail(f"wanted at most {_MOST:g} of its smallest unit, found {value!r}", param, ctx)
        return number


AGE = Quantity("age", SECONDS, "30d (s, m, h, d, w)")
SIZE = Quantity("size", BYTES, "5GB (B, KB, MB, GB, KiB, MiB, GiB)")
