"""What the texts of runners (benchmark_model, executor_runner, onnxruntime_perf_test) are read with, and read into.

Two rules keep a wrong number out. A line counts only with its line end: a number that was cut off (`1455` of `145528`)
is a number too. And whatever a text says twice (doubled output, an average beside its total) must agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from android_bench.errors import BadOutput

# As C++ streams and printf write one: 12, 0.5, 9.99242e+06. No sign: none of these quantities is below zero.
NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
MS_PER_UNIT = {"s": 1000.0, "sec": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
# The tools print six significant digits; two such numbers of one quantity differ by no more than this.
PRECISION = 2e-5


@dataclass(frozen=True, slots=True)
class RunnerResult:
    """One run of a runner. Times are of one inference, in milliseconds; None is what its text does not say.

    `first_ms` is the first inference ever, which `avg_ms` holds only where a warning says so. `samples_ms`: every
    inference in its order, executor_runner's first one included; empty where the text does not give all of them.
    """

    tool: str
    avg_ms: float
    count: int | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    warmup_avg_ms: float | None = None
    peak_rss_bytes: int | None = None
    samples_ms: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()


def complete_lines(text: str) -> list[str]:
    """The lines that have their line end (adb without shell_v2 makes it CR LF), without it."""
    return [line.rstrip("\r") for line in text.split("\n")[:-1]]


def number(text: str, tool: str, line: str) -> float:
    """A number that a run can have (1e12 us are 11 days). Raises BadOutput."""
    value = float(text)
    if not value < 1e12:
        raise BadOutput(f"{tool}: wanted a time or a size, found {text!r} in {shorten(line)!r}")
    return value


def whole_number(text: str, tool: str, line: str) -> int:
    """A count or a size. Raises BadOutput where no run can have so many: int() itself would refuse 5000 digits."""
    if len(text) > 15:
        raise BadOutput(f"{tool}: wanted a count, found {len(text)} digits in {shorten(line)!r}")
    return int(text)


def agreed(tool: str, what: str, values: Iterable[float]) -> float | None:
    """The one value that a text gives for `what`, however often; None for none. Raises BadOutput on two."""
    distinct = sorted(set(values))
    if len(distinct) > 1:
        found = ", ".join(f"{value:g}" for value in distinct[:4])
        raise BadOutput(
            f"{tool}: wanted one run, found {len(distinct)} values for {what}: {found}",
            "give the output of one run; clear the log before it (adb logcat -c), or name the process",
        )
    return distinct[0] if distinct else None


def close(a: float, b: float, absolute: float = 0.0) -> bool:
    """Whether two printed numbers may be the same quantity."""
    return math.isclose(a, b, rel_tol=PRECISION, abs_tol=absolute)


def in_order(tool: str, line: str, *values: float | None) -> None:
    """Minimum, median, maximum and the like do not fall. Raises BadOutput."""
    known = [value for value in values if value is not None]
    for lower, higher in pairwise(known):
        if lower > higher and not close(lower, higher):
            raise BadOutput(
                f"{tool}: wanted least, middle and most in order, found {lower:g} over {higher:g} in {line!r}"
            )


def unreadable(tool: str, wanted: str, line: str) -> BadOutput:
    return BadOutput(
        f"{tool}: wanted {wanted}, found {shorten(line)!r}",
        "two programs wrote into one text, or it is of a version unknown here: run it alone, or report this line",
    )


def missing(tool: str, wanted: str, lines: Sequence[str], texts: Iterable[str]) -> BadOutput:
    """A text without what it must hold: the error names its last complaint, or its last line."""
    if not any(text.strip() for text in texts):
        found, hint = "no output", "look at the runner's exit code; executor_runner on a phone writes to the log only"
    else:
        words = re.compile(r"\b(?:error|fail|cannot|could not|unknown)", re.IGNORECASE)
        complaints = [line for line in lines if words.search(line)]
        last = complaints or [line for line in lines if line.strip()] or ["(no whole line)"]
        found = f"{len(lines)} lines, the last {'complaint' if complaints else 'one'} {shorten(last[-1])!r}"
        hint = "the runner failed, another program wrote this, or the text was cut off (or its last line end stripped)"
    return BadOutput(f"{tool}: wanted {wanted}, found {found}", hint)


def shorten(line: str, length: int = 160) -> str:
    return line if len(line) <= length else line[: length - 1] + "…"
