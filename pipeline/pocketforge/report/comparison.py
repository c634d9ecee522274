"""What changed from one report's targets to another's in what was counted on emulated devices. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.devices.emulator.counts import compare
from pocketforge.errors import RecipeError
from pocketforge.recipe import suggest
from pocketforge.records import Counted, Report, TargetRecord


@dataclass(frozen=True, slots=True)
class Change:
    """One class of instructions, function, operator, weight …

    Attributes:
        name: Its name.
        before: Instructions of one inference, bytes, or how often it is there; 0 where it is not.
        after: The same.
    """

    name: str
    before: int
    after: int

    @property
    def growth(self) -> int:
        return self.after - self.before


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


def paired(
    before: Report, after: Report, target: str | None, other: str | None
) -> list[tuple[TargetRecord, TargetRecord]]:
    """Targets of both reports, by their names; or `target` of the one and `other` (its namesake) of the other.

    Raises RecipeError for names that are not there, and where none is in both.
    """
    pairs = []
    for record in [_record(before, target)] if target else before.targets:
        match = _record(after, other or record.name) if target else _namesake(after, record.name)
        if match is not None:
            pairs.append((record, match))
    if not pairs:
        names = ", ".join(each.name for each in before.targets)
        raise RecipeError(
            f"no target is in both reports: the first has {names}",
            "say which two: --target NAME --with OTHER",
        )
    return pairs


def compare_counts(one: TargetRecord, two: TargetRecord, device: str | None) -> tuple[Compared, ...]:
    """On each emulated device that both were counted on. device: only this one."""
    compared = []
    for name in one.facts.emulated if device is None else [device]:
        before, after = _counts(one, name), _counts(two, name)
        if before and after:
            compared.append(_compared(one.name, two.name, name, before, after))
    return tuple(compared)


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


def _record(report: Report, name: str) -> TargetRecord:
    record = _namesake(report, name)
    if record is None:
        known = [t.name for t in report.targets]
        raise RecipeError(f"the report of {report.recipe} has no target {name!r}{suggest(name, known)}")
    return record


def _namesake(report: Report, name: str) -> TargetRecord | None:
    return next((t for t in report.targets if t.name == name), None)
