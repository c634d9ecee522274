"""What changed between two reports in the counts of emulated devices. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.devices.emulator.counts import compare
from pocketforge.errors import RecipeError
from pocketforge.recipe import suggest
from pocketforge.records import Counted, Report, TargetRecord


@dataclass(frozen=True, slots=True)
class Change:
    """One class of instructions or one function.

    Attributes:
        name: The class's, or the function's.
        before: Instructions of one inference.
        after: Instructions of one inference.
    """

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One target on one emulated device, in two reports.

    Attributes:
        target: Its name in the report before.
        other: The target's in the report after.
        device: The device.
        instructions: Of one inference, before and after.
        classes: Classes of instructions that changed; what grew most first.
        functions: Functions that changed; what grew most first.
    """

    target: str
    other: str
    device: str
    instructions: tuple[int, int]
    classes: tuple[Change, ...]
    functions: tuple[Change, ...]


def compare_reports(
    before: Report, after: Report, *, target: str | None = None, other: str | None = None, device: str | None = None
) -> list[Compared]:
    """One entry for each target and emulated device in both.

    Raises RecipeError for names that are not there, and when nothing can be compared.
    """
    compared = []
    for record in _named(before, target):
        match = _record(after, other or record.name) if other or target else _namesake(after, record.name)
        if match is None:
            continue
        for name in record.facts.emulated if device is None else [device]:
            one, two = (_counts(each, name) for each in (record, match))
            if one and two:
                compared.append(_compared(record.name, match.name, name, one, two))
    if not compared:
        devices = sorted({d for report in (before, after) for t in report.targets for d in t.facts.emulated})
        raise RecipeError(
            "no target of both reports was counted on the same emulated device"
            + (f" {device!r}{suggest(device, devices)}" if device else ""),
            'a recipe with a [[device]] of via = "emulator" counts instructions when it is built',
        )
    return compared


def _counts(record: TargetRecord, device: str) -> Counted | None:
    on_device = record.facts.emulated.get(device)
    return on_device.counts if on_device else None


def _compared(target: str, other: str, device: str, one: Counted, two: Counted) -> Compared:
    rows = compare(one, two)
    classes, functions = (
        tuple(Change(row.name, row.before, row.after) for row in rows if row.kind == kind)
        for kind in ("class", "function")
    )
    return Compared(target, other, device, (one.instructions, two.instructions), classes, functions)


def _named(report: Report, target: str | None) -> list[TargetRecord]:
    return list(report.targets) if target is None else [_record(report, target)]


def _record(report: Report, name: str) -> TargetRecord:
    record = _namesake(report, name)
    if record is None:
        known = [t.name for t in report.targets]
        raise RecipeError(f"the report of {report.recipe} has no target {name!r}{suggest(name, known)}")
    return record


def _namesake(report: Report, name: str) -> TargetRecord | None:
    return next((t for t in report.targets if t.name == name), None)
