"""What a kind of device shows of a build in the terminal: tables of its own, from the report alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pkgutil import resolve_name
from typing import Protocol

from rich.table import Table

from pocketforge.records import Report, TargetRecord
from pocketforge.registries import DEVICES, PYTORCH, DeviceInfo


class ShowTables(Protocol):
    """Function `DeviceInfo.tables` of a kind."""

    def __call__(self, targets: Sequence[TargetRecord], /) -> list[Table]:
        """Nothing for targets that were on no such device; what is known of each is in `facts[DeviceInfo.about]`."""
        ...


def device_tables(report: Report) -> list[Table]:
    """Those of every kind of device that the report is of, in the registry's order: no other package's code is run."""
    tables: list[Table] = []
    for via, info in _kinds_of(report).items():
        if info.tables:
            with DEVICES.calling(via, info.tables):
                show: ShowTables = resolve_name(info.tables)
                tables += show(report.targets)
    return tables


def _kinds_of(report: Report) -> dict[str, DeviceInfo]:
    """Ours, and those of packages by which something was measured or of which the facts of a target tell."""
    measured = {each.via for each in report.measurements}
    told = {about for target in report.targets for about in target.facts.more}
    rows = {via: DEVICES.if_usable(via) for via in DEVICES.in_order({*DEVICES.ours, *measured})}
    if told:
        rows |= {via: info for via, info in DEVICES.usable().items() if info.about in told}
    return {via: info for via, info in rows.items() if info is not None}


def untold_kinds(vias: Collection[str]) -> list[str]:
    """Kinds of device whose package is not here, or broken by now: nobody draws their tables."""
    return [via for via in DEVICES.in_order(vias) if via != PYTORCH and DEVICES.if_usable(via) is None]
