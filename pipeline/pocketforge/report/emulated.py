"""What emulated devices gave, as tables in the terminal: exact counts, estimates with their intervals, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from pocketforge.measure.bench_rows import BenchRow, CountedRow
from pocketforge.records import TargetRecord
from pocketforge.report.tables import Screen, against_host, console, table, told
from pocketforge.results.emulated import doubt

_NUMBERS = ("top-1", "dB to host", "instructions", "estimated cycles", "estimated ms")


def emulated_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """One row for each target and device; nothing without an emulated device."""
    rows = [(t.name, device, about) for t in targets for device, about in t.facts.get("emulated", {}).items()]
    hosts = [row for row in rows if row[2].get("architecture") == "x86_64"]
    rows = [row for row in rows if row not in hosts]
    if not rows:
        return [_x86(hosts)] if hosts else []
    made = table(
        "on emulated ARM cores (counts are exact; cycles and ms are estimates, not phone time)",
        "target", "device", *_NUMBERS, "interval ms", "core model", numbers=(*_NUMBERS, "interval ms"),
    )  # fmt: skip
    for name, device, about in rows:
        made.add_row(name, device, *_cells(about))
    return [made, *([_x86(hosts)] if hosts else [])]


def _x86(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Table:
    """Outputs alone: nothing is counted or estimated for an x86 host."""
    numbers = ("top-1", "dB to host", "steps to host")
    made = table(
        "on x86 hosts (outputs against this machine's; nothing is counted, timed or estimated)",
        "target", "device", "kernels", "played by", *numbers, numbers=numbers,
    )  # fmt: skip
    for name, device, about in rows:
        verified = about.get("verify")
        if not verified:
            made.add_row(name, device, "", "", "", "", "")
            continue
        top1 = verified["device"]["accuracy"].get("accuracy_top1")
        steps = verified["host"].get("max_steps")
        made.add_row(
            name, device, verified["kernels"]["kernels"], verified["kernels"]["how"],
            "" if top1 is None else f"{top1:.4f}", f"{verified['host']['sqnr_db']:.1f}",
            "" if steps is None else f"{steps:g}",
        )  # fmt: skip
    return made


def _cells(about: Mapping[str, Any]) -> list[str]:
    verified, counts, estimate = (about.get(name) for name in ("verify", "counts", "estimate"))
    top1 = verified["device"]["accuracy"].get("accuracy_top1") if verified else None
    cells = [
        "" if top1 is None else f"{top1:.4f}",
        against_host(verified) if verified else "",
        f"{counts['instructions']:,}" + ("" if counts["conclusive"] else " ?") if counts else "",
    ]
    if not estimate or "refused" in estimate:
        return [*cells, "", "", "", "refused" if estimate else ""]
    interval = f"{estimate['low_ms']:.3g}–{estimate['high_ms']:.3g}"
    how = f"{estimate['core']}, {estimate['status']}"
    return [*cells, f"{estimate['cycles']:,.0f}", f"{estimate['latency_ms']:.3g}", interval, how]


def show_comparison(found: Sequence[Mapping[str, Any]], rows: int) -> None:
    """Each pair's total, then classes and functions, those that grew most first and those that shrank most last."""
    screen = console()
    for pair in found:
        one, two = pair["instructions"]
        names = pair["target"] if pair["target"] == pair["other"] else f"{pair['target']} → {pair['other']}"
        title = f"{names} on {pair['device']}: {one:,} → {two:,} instructions ({_change(one, two)})"
        screen.print(title)
        for what, one_of in (("classes", "class"), ("functions", "function")):
            changed = pair[what]
            shown = changed if len(changed) <= rows else [*changed[: rows - rows // 2], *changed[-(rows // 2) :]]
            if not changed:
                continue
            numbers = ("before", "after", "change", "%")
            made = table("", one_of, *numbers, numbers=numbers)
            for row in shown:
                difference = row["after"] - row["before"]
                made.add_row(
                    row["name"],
                    f"{row['before']:,}",
                    f"{row['after']:,}",
                    f"{difference:+,}",
                    _change(row["before"], row["after"]),
                )
            screen.print(made)
            if len(shown) < len(changed):
                screen.print(f"… {len(changed) - len(shown)} more {what} changed by less (--rows)")


def _change(before: int, after: int) -> str:
    return f"{after / before - 1:+.2%}" if before else "new"


def show_emulated(rows: Sequence[BenchRow], *, explain: bool) -> None:
    """What `bench` found on emulated devices: totals, instructions by class, and where the cycles go."""
    screen = console()
    counted = [row for row in rows if isinstance(row, CountedRow)]
    numbers = ("instructions", "estimated cycles", "estimated ms", "interval ms")
    totals = table(
        "benchmark (via emulator: counts are exact; cycles and ms are estimates, not phone time)",
        "file", "device", "runtime", *numbers, "core model", numbers=numbers,
    )  # fmt: skip
    for row in counted:
        _, _, *cells = _cells(row.to_json())
        totals.add_row(row.name, row.device, row.runtime, *cells)
    screen.print(totals)
    classes = list(counted[0].counts.by_class)
    shares = table("share of instructions, %", "file", "device", *classes, numbers=classes)
    for row in counted:
        share = (f"{100 * row.counts.by_class.get(name, 0) / row.counts.instructions:.1f}" for name in classes)
        shares.add_row(row.name, row.device, *share)
    screen.print(shares)
    for row in counted:
        _explain(screen, row, explain)


def _explain(screen: Screen, row: CountedRow, explain: bool) -> None:
    where = f"{row.name} on {row.device}"
    if not row.counts.conclusive:
        told(screen, "warning", "yellow", f"{where}: {doubt(row.counts)}")
    if row.estimated.estimate is None:
        told(screen, "refused", "yellow", f"{where}: {row.estimated.refused}")
    elif explain:
        from pocketforge.estimation.explain import explain as lines_of

        for line in [where, *lines_of(row.estimated.estimate)]:
            screen.print(line)
