"""What `pocketforge bench` found, as tables in the terminal: each kind of device has its own."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol

from pocketforge.measure.bench_rows import HostRow
from pocketforge.registries import DEVICES
from pocketforge.report.tables import console, milliseconds, table

if TYPE_CHECKING:
    from pocketforge.measure.bench_rows import BenchRow


class ShowRows(Protocol):
    """Function `DeviceInfo.bench_table` of a kind."""

    def __call__(self, rows: Sequence[BenchRow], /, *, explain: bool) -> None:
        """rows: those that the kind's `BenchOn` gave, one at least. explain: say why, where there is more to say."""
        ...


def show_rows(rows: Sequence[BenchRow], *, explain: bool) -> None:
    """The rows of each kind of device, in the registry's order."""
    for via in DEVICES.in_order({row.via for row in rows}):
        place = DEVICES[via].bench_table
        with DEVICES.calling(via, place, prints=True):
            show: ShowRows = resolve_name(place)
            show([row for row in rows if row.via == via], explain=explain)


def show_host(rows: Sequence[BenchRow], *, explain: bool) -> None:
    """Timings of files, each with the interval of its median over processes; then what ran them."""
    screen = console()
    columns = ("processes", "samples", "min ms", "p50 ms", "95 % interval", "p90 ms", "p99 ms")
    timings = table("benchmark (via host)", "file", *columns, numbers=columns)
    numbers = ("threads", "load ms", "peak bytes")
    runtimes = table("", "file", "device", "runtime", *numbers, numbers=numbers)
    for row in rows:
        assert isinstance(row, HostRow)
        times = row.times
        timings.add_row(
            row.name,
            str(len(row.processes)),
            str(len(times.samples_ms)),
            _figure(times.percentile_ms("min")),
            _figure(times.percentile_ms("p50")),
            _figure(times.low_ms) + "–" + _figure(times.high_ms),
            _figure(times.percentile_ms("p90")),
            _figure(times.percentile_ms("p99")),
        )
        runtimes.add_row(
            row.name,
            row.device,
            row.runtime,
            str(row.threads),
            "" if times.load_ms is None else f"{times.load_ms:.1f}",
            "" if times.peak_rss_bytes is None else f"{times.peak_rss_bytes:,}",
        )
    screen.print(timings)
    screen.print(runtimes)


def _figure(value: float | None) -> str:
    return "?" if value is None else milliseconds(value)  # too few samples to bound it
