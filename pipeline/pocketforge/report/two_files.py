"""Two model files on the same samples, in the terminal."""

from __future__ import annotations

from pocketforge.measure.two_files import ComparedFiles
from pocketforge.recipe.budget import METRICS
from pocketforge.report.tables import console, milliseconds, table


def rows_of(found: ComparedFiles) -> list[tuple[str, ...]]:
    """What there is of both files: what it is, of the first and of the second."""
    first, second = found.first, found.second
    rows: list[tuple[str, ...]] = [
        ("runtime", first.runtime, second.runtime),
        ("scheme", first.scheme, second.scheme),
        ("SHA-256", first.sha256[:16], second.sha256[:16]),
        ("bytes", f"{first.size_bytes:,}", f"{second.size_bytes:,}"),
        ("gzip -9", f"{first.gzip_bytes:,}", f"{second.gzip_bytes:,}"),
        ("parameters", f"{first.parameters:,}", f"{second.parameters:,}"),
    ]
    for name in dict.fromkeys((*first.accuracy, *second.accuracy)):
        row = METRICS.if_usable(name)
        values = (each.accuracy.get(name) for each in (first, second))
        rows.append((row.title if row else name, *("" if v is None else f"{v:.4f}" for v in values)))
    for device in dict.fromkeys((*first.instructions, *second.instructions)):
        counts = (each.instructions.get(device) for each in (first, second))
        rows.append((f"instructions on {device}", *("not counted" if c is None else f"{c:,}" for c in counts)))
    if first.latency_ms is not None and second.latency_ms is not None:
        rows.append(("p50 ms here", milliseconds(first.latency_ms), milliseconds(second.latency_ms)))
    return rows


def show(found: ComparedFiles) -> None:
    """Both files, every output of the second against the first's, their times, and operators that differ."""
    screen = console()
    both = table(f"{found.samples} samples", "", found.first.file, found.second.file)
    for row in rows_of(found):
        both.add_row(*row)
    screen.print(both)
    figures = ("SQNR dB", "worst channel dB", "largest difference", "equal")
    outputs = table(f"{found.second.file} against {found.first.file}", "output", *figures, numbers=figures)
    for each in found.outputs:
        outputs.add_row(
            each.name,
            "" if each.sqnr_db is None else f"{each.sqnr_db:.1f}",
            "" if each.channel_sqnr_db is None else f"{each.channel_sqnr_db:.1f}",
            "" if each.max_abs_diff is None else f"{each.max_abs_diff:.4g}",
            "" if each.integer_agreement is None else f"{each.integer_agreement:.2%}",
        )
    screen.print(outputs)
    if found.argmax_agreement is not None:
        screen.print(f"the same class of {found.argmax_agreement:.2%} of the samples")
    if found.in_turns:
        low, high = found.in_turns.difference_percent.low, found.in_turns.difference_percent.high
        screen.print(
            f"time: {found.in_turns.difference_percent.value:+.1f} % (95 % interval {low:+.1f} to {high:+.1f} %), "
            f"{found.in_turns.blocks} blocks A B B A on this host"
        )
    for text in found.apart:
        screen.print(f"apart: {text}")
    if found.operators:
        counts = (found.first.file, found.second.file)
        operators = table("operators that differ", "operator", *counts, numbers=counts)
        for name, (one, other) in found.operators.items():
            operators.add_row(name, str(one), str(other))
        screen.print(operators)
