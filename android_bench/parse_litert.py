"""The text of TFLite's and LiteRT's `benchmark_model`.

Sources: tensorflow/lite/tools/benchmark/benchmark_model.cc (LiteRT: tflite/tools/benchmark/benchmark_model.cc) writes
"Inference timings in us" and the peak memory; tsl/util/stats_calculator.h (Stat::OutputToStream) writes the line
"count=…", once for the warm-up and once for the runs; tensorflow/lite/tools/logging.h puts "INFO: " before each and,
on Android, writes them to the log under the tag `tflite` as well. Older versions have no prefix, no p5/median/p95, and
"curr=" before "count=".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.errors import BadOutput
from android_bench.runner_texts import (
    NUMBER,
    RunnerResult,
    agreed,
    close,
    complete_lines,
    in_order,
    missing,
    number,
    unreadable,
    whole_number,
)

TOOL = "benchmark_model"
WANTED = '"Inference timings in us: Init: …, First inference: …, Warmup (avg): …, Inference (avg): …"'
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER}), Warmup \(avg\): ({NUMBER}), "
    rf"Inference \(avg\): ({NUMBER})"
)
_TAIL = (
    rf"(?: min=(?P<min>{NUMBER}) max=(?P<max>{NUMBER}) avg=(?P<avg>{NUMBER}) std=(?P<std>{NUMBER})"
    rf"(?: p5=(?P<p5>{NUMBER}) median=(?P<median>{NUMBER}) p95=(?P<p95>{NUMBER}))?)?"
)
_STATS = (
    re.compile(
        rf"count=(?P<count>\d+)(?: first=(?P<first>{NUMBER}))? curr=(?P<curr>{NUMBER})(?P<same>\(all same\))?{_TAIL}"
    ),
    re.compile(rf"(?P<first>)curr=(?P<curr>{NUMBER}) count=(?P<count>\d+)(?P<same>\(all same\))?{_TAIL}"),
)
# --enable_op_profiling prints statistics of its own in the same words, behind these.
_PROFILING = re.compile(r"(?:Timings \(microseconds\)|Memory \(bytes\)): ")
_ONE = "give the output of one run; clear the log before it (adb logcat -c)"
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({NUMBER})")


@dataclass(frozen=True, slots=True)
class _Stats:
    """One "count=" line, in microseconds as printed."""

    count: int
    avg: float
    first: float | None
    min: float | None = None
    max: float | None = None
    std: float | None = None
    median: float | None = None
    p95: float | None = None
    all_same: bool = False


def read(text: str) -> RunnerResult:
    """One run's result. Raises BadOutput: no timings, a broken line, two runs, numbers that contradict."""
    lines = [line.strip() for line in complete_lines(text)]
    stats: list[_Stats] = []
    timings: list[tuple[float, ...]] = []
    peaks: list[float] = []
    for line in lines:
        message = line.removeprefix("INFO: ").strip()
        if "Benchmarking failed" in message:
            raise missing(TOOL, WANTED, lines, [text])
        if "Inference timings in us" in message:
            if not (found := _TIMINGS.fullmatch(message)):
                raise unreadable(TOOL, WANTED, line)
            timings.append(tuple(number(value, TOOL, line) for value in found.groups()))
        elif re.search(r"\bcount=\d|\bcurr=\d", message) and not _PROFILING.match(message):
            if (one := _stats(message)) not in stats:
                stats.append(one)
            if len(stats) > 2:
                raise BadOutput(
                    f'{TOOL}: wanted a "count=" line of the warm-up and one of the runs, found {line!r}', _ONE
                )
        elif "Overall peak memory footprint" in message:
            if not (found := _PEAK.fullmatch(message)):
                raise unreadable(TOOL, '"Overall peak memory footprint (MB) via periodic monitoring: …"', line)
            peaks.append(number(found[1], TOOL, line))
    if not timings:
        raise missing(TOOL, WANTED, lines, [text])
    init, first, warmup, avg = (agreed(TOOL, name, column) or 0.0 for name, column in _columns(timings))
    runs = _timed_runs(stats, warmup, avg)
    if avg == 0 or (runs is not None and runs.count == 0):
        raise BadOutput(
            f"{TOOL}: wanted inferences of a microsecond at least, found an average of {avg:g} us",
            "no inference was run (--dry_run, --num_runs=0), or the model is too small for the tool's clock",
        )
    peak = agreed(TOOL, "the peak memory", peaks)
    return RunnerResult(
        tool=TOOL,
        avg_ms=avg / 1000,
        count=runs.count if runs else None,
        median_ms=_ms(runs.median if runs else None),
        p95_ms=_ms(runs.p95 if runs else None),
        min_ms=_ms(runs.min if runs else None),
        max_ms=_ms(runs.max if runs else None),
        std_ms=_ms(runs.std if runs else None),
        load_ms=init / 1000,
        # Both are printed as 0 where there was no warm-up.
        first_ms=first / 1000 if first else None,
        warmup_avg_ms=warmup / 1000 if warmup else None,
        peak_rss_bytes=round(peak * 1024 * 1024) if peak else None,
        warnings=() if runs else ('no "count=" line: how many inferences the average is of is unknown',),
    )


def _columns(timings: list[tuple[float, ...]]) -> list[tuple[str, tuple[float, ...]]]:
    names = ("Init", "First inference", "Warmup (avg)", "Inference (avg)")
    return list(zip(names, zip(*timings, strict=True), strict=True))


def _stats(message: str) -> _Stats:
    if message == "count=0":
        return _Stats(0, 0.0, None)
    found = next((match for shape in _STATS if (match := shape.fullmatch(message))), None)
    if found is None or (count := whole_number(found["count"], TOOL, message)) == 0:
        raise unreadable(TOOL, '"count=… first=… curr=… min=… max=… avg=… std=…"', message)
    value = {name: number(text, TOOL, message) for name, text in found.groupdict().items() if text and name != "same"}
    if "avg" not in value:
        if count > 1 and not found["same"]:
            raise unreadable(TOOL, '"(all same)", or a minimum, a maximum and an average', message)
        same = value["curr"]
        return _Stats(count, same, same, same, same, 0.0, same, same, all_same=True)
    in_order(TOOL, message, value["min"], value["avg"], value["max"])
    in_order(TOOL, message, value["min"], value.get("p5"), value.get("median"), value.get("p95"), value["max"])
    for name in ("first", "curr"):
        in_order(TOOL, message, value["min"], value.get(name), value["max"])
    first, least, most, std, median, p95 = (value.get(n) for n in ("first", "min", "max", "std", "median", "p95"))
    return _Stats(count, value["avg"], first, least, most, std, median, p95)


def _timed_runs(stats: list[_Stats], warmup: float, avg: float) -> _Stats | None:
    """Which of the distinct "count=" lines is that of the runs: the last, whose average is that of the timings."""
    if not stats:
        return None
    # One version of the tool prints one shape of line: with p5, median and p95, or without them.
    mixed = len({one.p95 is None for one in stats if one.count and not one.all_same}) > 1
    wrong = not close(stats[-1].avg, avg) or (len(stats) == 2 and not close(stats[0].avg, warmup))
    if mixed or wrong:
        averages = ", ".join(f"{one.avg:g}" for one in stats)
        raise BadOutput(
            f'{TOOL}: wanted "count=" lines of one shape with the averages {warmup:g} (warm-up) and {avg:g} us, '
            f"found averages {averages}",
            _ONE,
        )
    return stats[-1]


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1000
