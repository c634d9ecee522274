"""What phones gave, as tables in the terminal: measured time, rounds that count, the phone itself, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from pocketforge.records import TargetRecord
from pocketforge.report.tables import against_host, console, milliseconds, table
from pocketforge.results.phones import remarks
from pocketforge.stats import percentile

_NUMBERS = ("top-1", "dB to host", "p50 ms", "± noise", "GHz", "rounds")


def phone_tables(targets: Sequence[TargetRecord]) -> list[Table]:
    """One row for each target and phone; nothing without a phone."""
    rows = [(t.name, device, about) for t in targets for device, about in t.facts.get("phones", {}).items()]
    if not rows:
        return []
    made = table("on phones (measured there)", "target", "device", "phone", *_NUMBERS, "cores", numbers=_NUMBERS)
    for name, device, about in rows:
        verified, bench = about.get("verify"), about.get("bench")
        top1 = verified["device"]["accuracy"].get("accuracy_top1") if verified else None
        made.add_row(
            name,
            device,
            told(about["phone"]),
            "" if top1 is None else f"{top1:.4f}",
            against_host(verified) if verified else "",
            *(_timed(bench["samples_ms"], bench["how"]) if bench else ("", "", "", "", "")),
        )
    return [made]


def show_phones(results: Sequence[Mapping[str, Any]]) -> None:
    """What `bench` measured on phones."""
    screen = console()
    numbers = ("samples", "p50 ms", "± noise", "p90 ms", "GHz", "rounds", "dB to host", "load ms", "peak bytes")
    made = table("benchmark (via adb: measured on the phone)", "file", "device", *numbers, "cores", numbers=numbers)
    for row in results:
        p50, noise, clock, rounds, cores = _timed(row["samples_ms"], row["how"])
        made.add_row(
            row["name"],
            row["device"],
            str(row["samples"]),
            p50,
            noise,
            "" if row["p90_ms"] is None else milliseconds(row["p90_ms"]),
            clock,
            rounds,
            f"{min(o['sqnr_db'] for o in row['against_host']):.1f}" if row["against_host"] else "not run",
            "" if row["load_ms"] is None else f"{row['load_ms']:.1f}",
            "" if row["peak_rss_bytes"] is None else f"{row['peak_rss_bytes']:,}",
            cores,
        )
    screen.print(made)
    for row in {row["serial"]: row for row in results}.values():
        screen.print(f"{row['device']}: {told(row['phone'])}, {row['serial']}; by {row['runtime']}")
        for difference in row["phone"]["differs"]:
            screen.print(f"  is not the profile's phone: {difference}")
    for row in results:
        for text in remarks(row["how"]):
            screen.print(f"{row['name']} on {row['device']}: {text}")


def show_compared(results: Sequence[Mapping[str, Any]]) -> None:
    """Each pair of files: the difference with its interval, and the verdict."""
    screen = console()
    for row in results:
        ours, theirs = (("?" if p50 is None else milliseconds(p50)) for p50 in row["p50_ms"])
        screen.print(f"{row['name']} {ours} ms, {row['against']} {theirs} ms on {row['device']} ({told(row['phone'])})")
        if row["same_file"]:
            floor = row["noise_floor"]
            screen.print(
                f"  the same file, they lie {floor['bias_percent']:+.2f} % apart, "
                f"± {floor['half_width_percent']:.2f} % ({floor['blocks']} blocks); "
                f"noise floor {floor['session_percent']:.2f} %"
            )
            screen.print(f"  kept in {row['kept_in']}")
        else:
            screen.print(f"  {row['verdict']}: {row['reason']}")
        for side in ("file", "against"):
            for text in remarks(row["how"][side]):
                screen.print(f"  {text}")


def told(phone: Mapping[str, Any]) -> str:
    """A phone in a few words."""
    words = [phone.get("model") or "unknown phone", phone.get("soc") or phone.get("platform") or ""]
    if phone.get("android_version"):
        words.append(f"Android {phone['android_version']}")
    return ", ".join(filter(None, words))


def _timed(samples_ms: Sequence[float], how: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    rounds = how["rounds"]
    clean = [r for r in rounds if not r["throttled"]]
    clocks = [r["clock_ghz"] for r in clean if r["clock_ghz"] is not None]
    return (
        milliseconds(percentile(samples_ms, "p50")) if samples_ms else "none",
        f"{how['noise_floor']:.1%}",
        f"{min(clocks):.2f}–{max(clocks):.2f}" if clocks else "?",
        f"{len(clean)} of {len(rounds)}",
        how["cores"],
    )
