"""What changed between two reports in the counts of emulated devices. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pocketforge.devices.emulator.counts import compare
from pocketforge.errors import RecipeError
from pocketforge.recipe import suggest
from pocketforge.records import Report, TargetRecord


def compare_reports(
    before: Report, after: Report, *, target: str | None = None, other: str | None = None, device: str | None = None
) -> list[dict[str, Any]]:
    """One entry for each target and emulated device in both: target, other, device, instructions (two numbers),
    classes and functions (rows of name, before, after; what grew most first).

    Raises RecipeError for names that are not there, and when nothing can be compared.
    """
    found = []
    for record in _named(before, target):
        match = _record(after, other or record.name) if other or target else _namesake(after, record.name)
        if match is None:
            continue
        ours, theirs = (r.facts.get("emulated", {}) for r in (record, match))
        for name in ours if device is None else [device]:
            one, two = (side.get(name, {}).get("counts") for side in (ours, theirs))
            if one and two:
                found.append({"target": record.name, "other": match.name, "device": name, **_grown(one, two)})
    if not found:
        devices = sorted({d for report in (before, after) for t in report.targets for d in t.facts.get("emulated", {})})
        raise RecipeError(
            "no target of both reports was counted on the same emulated device"
            + (f" {device!r}{suggest(device, devices)}" if device else ""),
            'a recipe with a [[device]] of via = "emulator" counts instructions when it is built',
        )
    return found


def _named(report: Report, target: str | None) -> list[TargetRecord]:
    return list(report.targets) if target is None else [_record(report, target)]


def _record(report: Report, name: str) -> TargetRecord:
    found = _namesake(report, name)
    if found is None:
        known = [t.name for t in report.targets]
        raise RecipeError(f"the report of {report.recipe} has no target {name!r}{suggest(name, known)}")
    return found


def _namesake(report: Report, name: str) -> TargetRecord | None:
    return next((t for t in report.targets if t.name == name), None)


@dataclass(frozen=True, slots=True)
class _Sums:
    instructions: int
    by_class: Mapping[str, int]
    by_function: Mapping[str, int]
    libraries: Mapping[str, str]


def _grown(*counts: Mapping[str, Any]) -> dict[str, Any]:
    one, two = (_Sums(**{f.name: c[f.name] for f in fields(_Sums)}) for c in counts)
    rows = compare(one, two)
    return {
        "instructions": [one.instructions, two.instructions],
        **{
            plural: [{"name": r.name, "before": r.before, "after": r.after} for r in rows if r.kind == kind]
            for plural, kind in (("classes", "class"), ("functions", "function"))
        },
    }
