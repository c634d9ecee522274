"""What a kind of device shows of a build in the terminal: tables of its own, from the report alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pkgutil import resolve_name
from typing import Protocol

from rich.table import Table

from pocketforge.records import TargetRecord
from pocketforge.registries import DEVICES, PYTORCH


class ShowTables(Protocol):
    """Function `DeviceInfo.tables` of a kind."""

    def __call__(self, targets: Sequence[TargetRecord], /) -> list[Table]:
        """Nothing for targets that were on no such device; what is known of each is in `facts[DeviceInfo.about]`."""
        ...


def device_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """Those of every kind of device, in the registry's order."""
    tables: list[Table] = []
    for via, info in DEVICES.usable().items():
        if info.tables:
            with DEVICES.calling(via, info.tables):
                show: ShowTables = resolve_name(info.tables)
                tables += show(targets)
    return tables


def untold_kinds(vias: Collection[str]) -> list[str]:
    """Kinds of device whose package is not here, or broken by now: nobody draws their tables."""
    return [via for via in DEVICES.in_order(vias) if via != PYTORCH and DEVICES.if_usable(via) is None]
