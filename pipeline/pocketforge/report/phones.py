"""What phones gave, as tables in the terminal: measured time, rounds that count, the phone itself, comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pocketforge.measure.bench_rows import BenchRow, ComparedRow, PhoneRow
from pocketforge.outcomes.bench_phone import HowOnPhone
from pocketforge.outcomes.files import from_json
from pocketforge.records import PhoneIs, TargetRecord
from pocketforge.report.tables import against_host, console, milliseconds, table, top1
from pocketforge.results.phones import remarks
from pocketforge.stats import percentile

_NUMBERS = ("top-1", "dB to host", "p50 ms", "± noise", "GHz", "rounds")


def phone_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """One row for each target and phone; nothing without a phone."""
    rows = [(t.name, device, known) for t in targets for device, known in t.facts.phones.items()]
    if not rows:
        return []
    phones = table("on phones (measured there)", "target", "device", "phone", *_NUMBERS, "cores", numbers=_NUMBERS)
    for target, device, known in rows:
        bench = known.bench
        phones.add_row(
            target,
            device,
            str(known.phone),
            top1(known.verify),
            against_host(known.verify.host) if known.verify else "",
            *(_timed(bench.samples_ms, bench.how.noise_floor, bench.how) if bench else ("", "", "", "", "")),
        )
    return [phones]


def show_phones(rows: Sequence[BenchRow], *, explain: bool) -> None:
    """What `bench` measured on phones."""
    screen = console()
    timed = [row for row in rows if isinstance(row, PhoneRow)]
    numbers = ("samples", "p50 ms", "± noise", "p90 ms", "GHz", "rounds", "dB to host", "load ms", "peak bytes")
    phones = table("benchmark (via adb: measured on the phone)", "file", "device", *numbers, "cores", numbers=numbers)
    for row in timed:
        times, p90_ms = row.times, row.times.percentile_ms("p90")
        p50, noise, clock, rounds, cores = _timed(times.samples_ms, row.noise.noise_floor, row.how)
        phones.add_row(
            row.name,
            row.device,
            str(len(times.samples_ms)),
            p50,
            noise,
            "" if p90_ms is None else milliseconds(p90_ms),
            clock,
            rounds,
            f"{min(o.near.sqnr_db for o in row.against_host):.1f}" if row.against_host else "not run",
            "" if times.load_ms is None else f"{times.load_ms:.1f}",
            "" if times.peak_rss_bytes is None else f"{times.peak_rss_bytes:,}",
            cores,
        )
    screen.print(phones)
    for row in {row.serial: row for row in timed}.values():
        screen.print(f"{row.device}: {_named(row)}, {row.serial}; by {row.runtime}")
        for difference in row.phone.differs:
            screen.print(f"  is not the profile's phone: {difference}")
    for row in timed:
        for text in remarks(row.how):
            screen.print(f"{row.name} on {row.device}: {text}")


def _named(row: PhoneRow | ComparedRow) -> str:
    """The phone in a few words."""
    return str(from_json(row.phone.to_json(), PhoneIs))


def show_compared(compared: Sequence[ComparedRow]) -> None:
    """Each pair of files: the difference with its interval, and the verdict."""
    screen = console()
    for row in compared:
        first_ms, second_ms = (
            "?" if side.p50_ms is None else milliseconds(side.p50_ms) for side in (row.file, row.against)
        )
        where = f"on {row.device} ({_named(row)})"
        screen.print(f"{row.file.name} {first_ms} ms, {row.against.name} {second_ms} ms {where}")
        if row.noise_floor is not None:
            floor = row.noise_floor
            screen.print(
                f"  the same file, they lie {floor.bias_percent:+.2f} % apart, "
                f"± {floor.half_width_percent:.2f} % ({floor.blocks} blocks); "
                f"noise floor {floor.session_percent:.2f} %"
            )
            screen.print(f"  kept in {row.kept_in}")
        else:
            screen.print(f"  {row.comparison.verdict}: {row.comparison.reason}")
        for side in (row.file, row.against):
            for text in remarks(side.how):
                screen.print(f"  {text}")


def _timed(samples_ms: Sequence[float], noise_floor: float, how: HowOnPhone) -> tuple[str, str, str, str, str]:
    """The median, how far results lie apart, clocks of the rounds that count, how many these are, and the cores."""
    clocks = [each.clock_ghz for each in how.clean if each.clock_ghz is not None]
    return (
        milliseconds(percentile(samples_ms, "p50")) if samples_ms else "none",
        f"{noise_floor:.1%}",
        f"{min(clocks):.2f}–{max(clocks):.2f}" if clocks else "?",
        f"{len(how.clean)} of {len(how.rounds)}",
        how.cores,
    )
