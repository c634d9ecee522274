"""The build's steps over its time: a bar for each that ran, with its processor time and memory. Drawn here, as pygal
has no bars that begin anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from pocketforge.records import Report, StepRecord
from pocketforge.report.page.parts import Plot
from pocketforge.report.page.svg import TINTS, WIDTH
from pocketforge.streams import printable

_ROW, _TOP, _BOTTOM = 18, 22, 20
# Where bars begin and end; left of them are names, right of them figures.
_LEFT, _RIGHT = 92, 262
_MOST_ROWS = 40
_TICKS = 3
_TITLE = "when each step ran, with its CPU seconds and its peak memory"


def timeline(report: Report) -> Plot | None:
    """None where no step says when it began: all were reused, or the report is of an earlier version."""
    ran = [(step, step.began_s, step.ended_s) for step in report.steps]
    timed = [(step, begin, end) for step, begin, end in ran if begin is not None and end is not None]
    if not timed:
        return None
    longest = sorted(timed, key=lambda each: each[1] - each[2])[:_MOST_ROWS]
    rows = sorted(longest, key=lambda each: (each[1], each[2], each[0].stage, each[0].lane))
    whole = max(report.wall_s, *(end for _, _, end in timed)) or 1.0
    height = _TOP + _ROW * len(rows) + _BOTTOM
    root = Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "class": "plot-of timeline"})
    root.set("aria-label", _TITLE)
    _axis(root, whole, height)
    numbers = {target.name: str(place) for place, target in enumerate(report.targets, 1)}
    stages = list(dict.fromkeys(step.stage for step in report.steps))
    for at, (step, begin, end) in enumerate(rows):
        lane = "+".join(numbers.get(name, "all") for name in step.lane.split("+"))
        _bar(root, _TOP + _ROW * at, step, f"{step.stage} {lane}", (begin / whole, end / whole), stages)
    left = len(timed) - len(rows)
    return Plot(
        # Nothing foreign is in it but as text, which the writer of XML escapes.
        Markup(tostring(root, encoding="unicode")),  # noqa: S704
        "Seconds from the build's beginning, by target's number; right of each bar its CPU seconds (with all that it "
        "started) and the most memory that its own process held. A bar that is longer than its CPU seconds waited, or "
        f"shared the processors.{f' {left} shorter steps are left out.' if left else ''}",
    )


def _axis(root: Element, whole: float, height: int) -> None:
    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        x = f"{_LEFT + share * (_RIGHT - _LEFT):.1f}"
        guide = {"class": "guide", "d": f"M{x} {_TOP - 4} V{height - _BOTTOM}"}
        SubElement(root, "path", guide)
        text = SubElement(root, "text", {"class": "centered quiet", "x": x, "y": str(height - 6)})
        text.text = f"{share * whole:.3g} s"
    for x, words in ((_RIGHT + 52, "CPU s"), (WIDTH - 4, "MB")):
        head = SubElement(root, "text", {"class": "ending quiet", "x": str(x), "y": "12"})
        head.text = words


def _bar(root: Element, y: int, step: StepRecord, label: str, over: tuple[float, float], stages: list[str]) -> None:
    begin, end = (_LEFT + share * (_RIGHT - _LEFT) for share in over)
    baseline = str(y + 13)
    name = SubElement(root, "text", {"class": "ending", "x": str(_LEFT - 5), "y": baseline})
    name.text = label if len(label) <= 15 else f"{label[:14]}…"
    tint = f"series tint-{stages.index(step.stage) % TINTS}"
    bar = SubElement(root, "rect", {"class": tint, "x": f"{begin:.1f}", "y": str(y + 3), "height": str(_ROW - 6)})
    bar.set("width", f"{max(end - begin, 1.5):.1f}")
    said = f"{step.stage} of {step.lane.replace('+', ' + ')}: {step.status}, {step.began_s:.1f} to {step.ended_s:.1f} s"
    SubElement(bar, "title").text = printable(said)
    figures = (
        (_RIGHT + 52, "" if step.cpu_s is None else f"{step.cpu_s:.1f}"),
        (WIDTH - 4, f"{step.peak_rss_bytes / 1e6:,.0f}" if step.peak_rss_bytes else ""),
    )
    for x, words in figures:
        if words:
            SubElement(root, "text", {"class": "ending", "x": str(x), "y": baseline}).text = words


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
