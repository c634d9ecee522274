"""`pocketforge device show` and `device watch`: what a connected phone is, and what it does now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from pocketforge.cli.options import FiniteRange, echo, echo_lines, json_option, print_json
from pocketforge.errors import EXIT_INTERRUPTED
from pocketforge.streams import json_text, reader_gone

if TYPE_CHECKING:
    from rich.table import Table

    from pocketforge.devices.match import Match
    from pocketforge.devices.phones import Clocks, CpuCluster, Heat, Link, PhoneFacts, Reading

F = TypeVar("F", bound=Callable[..., object])

serial_argument: Callable[[F], F] = click.argument("serial", required=False, default="")

_WIDTH = 16
_FOUND_BY = {
    "device": "by its device name",
    "model": "by its model",
    "soc": "by its SoC",
    "platform": "by its platform",
}


@click.command("show")
@serial_argument
@json_option
def show(serial: str, as_json: bool) -> None:
    """Show what a connected phone is, and how warm it is.

    SERIAL is as `pocketforge device list` has it; it may be left out where one phone is connected.
    """
    from pocketforge.devices.phones import matched, open_phone, phone_facts, phone_heat

    link = open_phone(serial)
    facts = phone_facts(link)
    heat = phone_heat(link)
    matching = matched(facts)
    if as_json:
        profile = matching.profile.name if matching.profile else None
        print_json(
            {
                "facts": facts.to_json(),
                "heat": heat.to_json(),
                "profile": profile,
                "matched_by": matching.how,
                "mismatches": list(matching.mismatches),
            }
        )
        return
    for name, text in (*_about(facts), *_matched(matching), *_heat_rows(heat)):
        echo(f"{name:<{_WIDTH}} {text}")


def _about(facts: PhoneFacts) -> Iterator[tuple[str, str]]:
    def known(*parts: str) -> str:
        return " ".join(part for part in parts if part) or "unknown"

    yield "phone", known(facts.manufacturer, facts.model, f"({facts.device})" if facts.device else "")
    yield "serial", facts.serial
    if facts.emulator:
        yield "", "a virtual device: its times are this computer's"
    api = f"(API {facts.sdk})" if facts.sdk is not None else ""
    yield "Android", known(facts.android_version, api, facts.build_type)
    yield "build", known(facts.fingerprint)
    yield "kernel", known(facts.kernel)
    yield "boot", known(facts.boot_id)
    yield (
        "SoC",
        known(facts.soc_manufacturer, facts.soc or "unknown", f"(platform {facts.platform})" if facts.platform else ""),
    )
    yield "ABIs", known(*facts.abis)
    for cluster in facts.clusters:
        yield f"{cluster.name} cores", _cluster(cluster)
    if not facts.clusters:
        yield "cores", "unknown"
    if facts.offline:
        yield "switched off", f"CPU {_ranges(facts.offline)}"
    yield "governor", facts.governor or "unknown"
    yield "RAM", "unknown" if facts.ram_bytes is None else f"{facts.ram_bytes / 2**30:.1f} GB"
    yield "CPU features", known(*facts.features)


def _cluster(cluster: CpuCluster) -> str:
    parts = [f"CPU {_ranges(cluster.cpus)}", cluster.core or "kind unknown"]
    if cluster.max_clock_ghz is not None:
        low = f"{cluster.min_clock_ghz:g} to " if cluster.min_clock_ghz is not None else ""
        parts.append(f"{low}{cluster.max_clock_ghz:g} GHz")
    if cluster.capacity is not None:
        parts.append(f"capacity {cluster.capacity}")
    return ", ".join(parts)


def _matched(found: Match) -> Iterator[tuple[str, str]]:
    if found.profile is None:
        yield "profile", "none"
    else:
        yield "profile", f"{found.profile.name} ({found.profile.title}), {_FOUND_BY[found.how]}"
    for mismatch in found.mismatches:
        yield "", f"! {mismatch}"


def _heat_rows(heat: Heat) -> Iterator[tuple[str, str]]:
    yield "thermal status", _status(heat)
    yield "battery", _battery(heat)
    yield "screen", heat.wakefulness or "unknown"
    if heat.sensors:
        yield "sensors", ", ".join(f"{s.name} ({s.kind}) {_celsius(s.temperature_c)}" for s in heat.sensors)
    for warning in heat.warnings:
        yield "", f"! {warning}"


def _status(heat: Heat) -> str:
    from pocketforge.devices.phones import THERMAL_STATUS

    return (
        "unknown" if heat.thermal_status is None else f"{heat.thermal_status} ({THERMAL_STATUS[heat.thermal_status]})"
    )


def _battery(heat: Heat) -> str:
    level = "level unknown" if heat.battery_level is None else f"{heat.battery_level} %"
    charging = {True: ", charging", False: ", not charging", None: ""}[heat.charging]
    return f"{level}, {_celsius(heat.battery_c)}{charging}"


def _celsius(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} °C"


def _ranges(cpus: Sequence[int]) -> str:
    """0-3,7"""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in parts)


@click.command("watch")
@serial_argument
@click.option(
    "--interval", type=FiniteRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--count", "-n", type=click.IntRange(1, 1_000_000_000), help="End after so many looks.  [default: at ^C]")
@click.option("--json", "as_json", is_flag=True, help="Print each look as a line of JSON.")
@click.pass_context
def watch(ctx: click.Context, serial: str, interval: float, count: int | None, as_json: bool) -> None:
    """Watch a connected phone's clocks, temperatures and battery.

    A dropped link is said, and tried again at each look. On a terminal the table is redrawn; elsewhere, one line is
    printed for each look. ^C ends it with exit code 130, as everywhere, and a reader that leaves (`| head`) with 0.
    """
    from pocketforge.devices.phones import open_phone, phone_facts

    link = open_phone(serial)
    facts = phone_facts(link)
    try:
        if as_json:
            _watch_json(link, facts, interval, count)
        elif sys.stdout.isatty():
            _watch_table(link, facts, interval, count)
        else:
            for _, reading in _looks(link, facts, interval, count):
                echo(_line(facts, reading))
    except KeyboardInterrupt:
        # Nothing is half done here, so nothing is said; only the exit code is as of any interrupted command.
        ctx.exit(EXIT_INTERRUPTED)


def _looks(link: Link, facts: PhoneFacts, interval: float, count: int | None) -> Iterator[tuple[float, Reading]]:
    """Readings and when they were made, in seconds since the first."""
    from pocketforge.devices.phones import look

    cpus = [cpu for cluster in facts.clusters for cpu in cluster.cpus]
    start = time.monotonic()
    looks = 0
    while True:
        at = time.monotonic()
        yield at - start, look(link, cpus)
        looks += 1
        if looks == count or reader_gone(sys.stdout):
            return
        time.sleep(max(0.0, at + interval - time.monotonic()))


def _watch_json(link: Link, facts: PhoneFacts, interval: float, count: int | None) -> None:
    for at, reading in _looks(link, facts, interval, count):
        row: dict[str, object] = {"time_s": round(at, 3), "lost": reading.lost}
        if reading.clocks is not None and reading.heat is not None:
            clocks = reading.clocks.to_json()
            del clocks["time_in_state"]  # long, and of use only as a difference
            row |= {"clocks": clocks, "heat": reading.heat.to_json()}
        echo_lines(json_text(row))


def _watch_table(link: Link, facts: PhoneFacts, interval: float, count: int | None) -> None:
    from rich.live import Live

    from pocketforge.report.tables import console

    last: Reading | None = None
    with Live(console=console(), auto_refresh=False) as live:
        for _, reading in _looks(link, facts, interval, count):
            # What was last seen stays on the screen while the link is down, under the word that it is.
            last = reading if not reading.lost else last
            live.update(_table(facts, last, reading.lost), refresh=True)


def _table(facts: PhoneFacts, reading: Reading | None, lost: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{facts.manufacturer} {facts.model}, {facts.serial}".strip()), show_header=False)
    if lost:
        table.add_row(Text("link"), Text(f"lost; trying again: {lost}", style="red"))
    if reading is not None and reading.clocks is not None and reading.heat is not None:
        for cluster in facts.clusters:
            table.add_row(Text(f"{cluster.name} {_ranges(cluster.cpus)}"), Text(_clocks(cluster.cpus, reading.clocks)))
        heat = reading.heat
        table.add_row(Text("thermal status"), Text(_status(heat), style="red" if heat.thermal_status else ""))
        table.add_row(Text("skin, CPU"), Text(f"{_celsius(heat.skin_c)}, {_celsius(heat.cpu_c)}"))
        table.add_row(Text("battery"), Text(_battery(heat)))
        table.add_row(Text("screen"), Text(heat.wakefulness or "unknown"))
        for warning in heat.warnings:
            table.add_row(Text("!"), Text(warning, style="yellow"))
    return table


def _line(facts: PhoneFacts, reading: Reading) -> str:
    if reading.clocks is None or reading.heat is None:
        return f"link lost; trying again: {reading.lost}"
    clocks = [f"{c.name} {_clocks(c.cpus, reading.clocks)}" for c in facts.clusters]
    heat = reading.heat
    status = "unknown" if heat.thermal_status is None else str(heat.thermal_status)
    return "; ".join(
        [
            *clocks,
            f"thermal status {status}",
            f"skin {_celsius(heat.skin_c)}",
            f"CPU {_celsius(heat.cpu_c)}",
            f"battery {_battery(heat)}",
        ]
    )


def _clocks(cpus: Sequence[int], clocks: Clocks) -> str:
    """The clocks of a cluster: one number where its CPUs agree, and the cap where it is lower than the top."""
    now = list(dict.fromkeys(f"{clocks.current_ghz[n]:.2f}" for n in cpus if n in clocks.current_ghz))
    caps = [(clocks.cap_ghz[n], clocks.top_ghz[n]) for n in cpus if n in clocks.cap_ghz and n in clocks.top_ghz]
    shown = f"{'/'.join(now)} GHz" if now else "clock unknown"
    if not caps:
        return shown
    cap, top = min(caps)
    return f"{shown}, capped to {cap:.2f} of {top:.2f}" if cap < top else f"{shown} of {top:.2f}"
