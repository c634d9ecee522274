"""Tables of a recipe that say their type and the settings of it: how an output is trained, what is done to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import ClassVar

from pocketforge.recipe.faults import Fault
from pocketforge.recipe.names import suggest
from pocketforge.recipe.ranges import Range, range_faults
from pocketforge.recipe.user_words import user_code


class TypedSettings:
    """Of a frozen dataclass with a `type` and settings, each with a default."""

    __slots__ = ()
    RANGES: ClassVar[Mapping[str, Range]]
    type: str

    def given(self) -> list[str]:
        """Names of the settings that are not the default's."""
        fields = [field for field in dataclasses.fields(self) if field.name != "type"]  # type: ignore[arg-type]
        return [field.name for field in fields if getattr(self, field.name) != field.default]

    def settings_faults(
        self, what: str, settings: Mapping[str, Collection[str]], of_all: Collection[str] = ()
    ) -> list[Fault]:
        """Values out of range, an unknown type, and settings that are not of the type.

        what: the table's name. settings: type → those that it has. of_all: those that every type has.
        """
        faults = [Fault(fault) for fault in range_faults(self)]
        known = settings.get(self.type)
        if known is not None:
            others = [name for name in self.given() if name not in known and name not in of_all]
            faults += [Fault(f"{name} is not of {what} {self.type}", name) for name in others]
        elif self.type and user_code(self.type) is None:
            faults.append(Fault(f"unknown value {self.type!r}{suggest(self.type, settings)}", "type"))
        return faults
