"""What emulated devices gave, as tables in the terminal: exact counts, estimates with their intervals, comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from pocketforge.measure.bench_rows import BenchRow, CountedRow
from pocketforge.records import Counted, Estimated, OnEmulator, Refused, TargetRecord
from pocketforge.report.tables import Screen, against_host, console, table, told, top1
from pocketforge.results.emulated import doubt

if TYPE_CHECKING:
    from pocketforge.devices.emulator.counts import Counts
    from pocketforge.estimation.estimate import Estimate

_NUMBERS = ("top-1", "dB to host", "instructions", "estimated cycles", "estimated ms")


def emulated_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """One row for each target and device; nothing without an emulated device."""
    rows = [(t.name, device, known) for t in targets for device, known in t.facts.emulated.items()]
    hosts = [row for row in rows if row[2].architecture == "x86_64"]
    cores = [row for row in rows if row[2].architecture != "x86_64"]
    return [*([_cores(cores)] if cores else []), *([_x86(hosts)] if hosts else [])]


def _cores(rows: Sequence[tuple[str, str, OnEmulator]]) -> Table:
    emulated = table(
        "on emulated ARM cores (counts are exact; cycles and ms are estimates, not phone time)",
        "target", "device", *_NUMBERS, "interval ms", "core model", numbers=(*_NUMBERS, "interval ms"),
    )  # fmt: skip
    for target, device, known in rows:
        emulated.add_row(
            target,
            device,
            top1(known.verify),
            against_host(known.verify.host) if known.verify else "",
            _count(known.counts) if known.counts else "",
            *_estimate(known.estimate),
        )
    return emulated


def _x86(rows: Sequence[tuple[str, str, OnEmulator]]) -> Table:
    """Outputs alone: nothing is counted or estimated for an x86 host."""
    numbers = ("top-1", "dB to host", "steps to host")
    hosts = table(
        "on x86 hosts (outputs against this machine's; nothing is counted, timed or estimated)",
        "target", "device", "kernels", "played by", *numbers, numbers=numbers,
    )  # fmt: skip
    for target, device, known in rows:
        verified = known.verify
        if not verified or not verified.kernels:
            hosts.add_row(target, device, "", "", "", "", "")
            continue
        steps = verified.host.max_steps
        hosts.add_row(
            target, device, verified.kernels.kernels, verified.kernels.how, top1(verified),
            against_host(verified.host), "" if steps is None else f"{steps:g}",
        )  # fmt: skip
    return hosts


def _count(counts: Counted | Counts) -> str:
    return f"{counts.instructions:,}" + ("" if counts.conclusive else " ?")


def _estimate(estimate: Estimated | Estimate | Refused | None) -> tuple[str, str, str, str]:
    """Cycles, ms, their interval, and the core model that they come from."""
    if estimate is None or isinstance(estimate, Refused):
        return "", "", "", "refused" if estimate else ""
    interval = f"{estimate.low_ms:.3g}–{estimate.high_ms:.3g}"
    how = f"{estimate.core}, {estimate.status}"
    return f"{estimate.cycles:,.0f}", f"{estimate.latency_ms:.3g}", interval, how


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
        estimate = row.estimated.estimate or Refused(row.estimated.refused)
        totals.add_row(row.name, row.device, row.runtime, _count(row.counts), *_estimate(estimate))
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
        from pocketforge.estimation.explain import layer_rows

        for line in [where, *lines_of(row.estimated.estimate)]:
            screen.print(line)
        numbers = ("layer", "cycles", "share", "weights, bytes", "activations, bytes")
        layers = table(
            f"layers of {where}: computing was counted whole, and is divided among them",
            "layer", "operator", "cycles", "share", "weights, bytes", "activations, bytes", "most", numbers=numbers,
        )  # fmt: skip
        for cells in layer_rows(row.layers):
            layers.add_row(*cells)
        screen.print(layers)
    if row.supposed is not None:
        _show_supposed(screen, where, row)


def _show_supposed(screen: Screen, where: str, row: CountedRow) -> None:
    from pocketforge.estimation.explain import summary

    words, estimated = row.supposed or ("", row.estimated)
    found, now = estimated.estimate, row.estimated.estimate
    if found is None:
        told(screen, "refused", "yellow", f"{where}, {words}: {estimated.refused}")
        return
    times = f", {found.latency_ms / now.latency_ms:.3f} of what it is" if now else ""
    screen.print(f"{where}, if {words}: {summary(found)}{times}; supposed, not counted")
