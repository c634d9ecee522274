"""The build's steps over its time: a bar for each that ran, with its processor time and memory."""

from __future__ import annotations

from collections.abc import Iterator

from pocketforge.records import Report
from pocketforge.report.page.parts import Plot
from pocketforge.report.page.rows import Row, drawn_rows
from pocketforge.report.page.svg import TINTS

_MOST_ROWS = 40
_TICKS = 3


def timeline(report: Report) -> Plot | None:
    """None where no step says when it began: all were reused, or the report is of an earlier version."""
    ran = [(step, step.began_s, step.ended_s) for step in report.steps]
    timed = [(step, begin, end) for step, begin, end in ran if begin is not None and end is not None]
    if not timed:
        return None
    longest = sorted(timed, key=lambda each: each[1] - each[2])[:_MOST_ROWS]
    whole = max(report.wall_s, *(end for _, _, end in timed)) or 1.0
    numbers = {target.name: str(place) for place, target in enumerate(report.targets, 1)}
    stages = list(dict.fromkeys(step.stage for step in report.steps))
    rows = [
        Row(
            f"{step.stage} {'+'.join(numbers.get(name, 'all') for name in step.lane.split('+'))}",
            begin / whole,
            end / whole,
            stages.index(step.stage) % TINTS,
            f"{step.stage} of {step.lane.replace('+', ' + ')}: {step.status}, {begin:.1f} to {end:.1f} s",
            (
                "" if step.cpu_s is None else f"{step.cpu_s:.1f}",
                f"{step.peak_rss_bytes / 1e6:,.0f}" if step.peak_rss_bytes else "",
            ),
        )
        for step, begin, end in sorted(longest, key=lambda each: (each[1], each[2], each[0].stage, each[0].lane))
    ]
    ticks = [(tick / _TICKS, f"{whole * tick / _TICKS:.3g} s") for tick in range(_TICKS + 1)]
    title = "when each step ran, with its CPU seconds and its peak memory"
    left = len(timed) - len(rows)
    return Plot(
        drawn_rows(rows, title, ("CPU s", "MB"), ticks, "timeline"),
        "Seconds from the build's beginning, by target's number; right of each bar its CPU seconds (with all that it "
        "started) and the most memory that its own process held. A bar that is longer than its CPU seconds waited, or "
        f"shared the processors.{f' {left} shorter steps are left out.' if left else ''}",
    )


def totals(report: Report) -> Iterator[str]:
    """What the build took in all, in sentences."""
    ran = [step for step in report.steps if step.began_s is not None]
    reused = [step for step in report.steps if step.status == "reused"]
    if ran:
        words = f"The build took {report.wall_s:,.1f} s; {_count(len(ran), 'step')} ran in it"
        known = [step.cpu_s for step in ran if step.cpu_s is not None]
        unknown = len(ran) - len(known)
        cpu = f" and took {sum(known):,.1f} CPU s" if known else ""
        yield f"{words}{cpu}{f' (of {unknown} that is not known)' if unknown and known else ''}."
    if reused:
        known = [step.cpu_s for step in reused if step.cpu_s is not None]
        they = "it" if len(reused) == 1 else "they"
        saved = f", which took {sum(known):,.1f} CPU s when {they} ran" if len(known) == len(reused) else ""
        yield f"{_count(len(reused), 'step')} {'was' if len(reused) == 1 else 'were'} reused{saved}."
    held = max(report.steps, key=lambda step: step.peak_rss_bytes, default=None)
    if held is not None and held.peak_rss_bytes:
        yield (
            f"The most memory that one held is {held.peak_rss_bytes / 1e6:,.0f} MB ({held.stage} of "
            f"{held.lane.replace('+', ' + ')}): its own process, with the libraries' pages that steps share."
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
