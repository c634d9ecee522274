"""What a kind of device shows of a build in the terminal: tables of its own, from the report alone."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Protocol

from rich.table import Table

from pocketforge.records import TargetRecord
from pocketforge.registries import DEVICES


class ShowTables(Protocol):
    """Function `DeviceInfo.tables` of a kind."""

    def __call__(self, targets: Sequence[TargetRecord], /) -> list[Table]:
        """Nothing for targets that were on no such device; what is known of each is in `facts[DeviceInfo.about]`."""
        ...


def device_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """Those of every kind of device, in the registry's order."""
    tables: list[Table] = []
    for info in DEVICES.values():
        if info.tables:
            show: ShowTables = resolve_name(info.tables)
            tables += show(targets)
    return tables
