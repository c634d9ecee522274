"""The text of ONNX Runtime's `onnxruntime_perf_test`.

Source: microsoft/onnxruntime, onnxruntime/test/perftest/performance_runner.cc (PerformanceRunner::Run, DumpToFile).
Wordings over the years: "Average time cost:", "Average inference time cost:", "Average inference time cost total:";
"P50 Latency is 0.0587sec" and "P50 Latency: 0.0995 s"; "Total time cost:0.49" without a unit is in seconds. With -v a
line "iteration:1,time_cost:0.0985" (seconds) for each inference. "First inference time cost" is cut to whole ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from android_bench.errors import BadOutput
from android_bench.runner_texts import (
    MS_PER_UNIT,
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

TOOL = "onnxruntime_perf_test"
WANTED = '"Average inference time cost total: … ms"'
_TIME = rf"({NUMBER}) ?(s|sec|ms|us|ns)"
_ITERATION = re.compile(rf"iteration:(\d+),time_cost:({NUMBER})")


def _time(found: re.Match[str], line: str) -> float:
    return number(found[1], TOOL, line) * MS_PER_UNIT[found[2]]


def _seconds(found: re.Match[str], line: str) -> float:
    return number(found[1], TOOL, line) * 1000


def _whole(found: re.Match[str], line: str) -> float:
    return whole_number(found[1], TOOL, line)


# What a line is about: (how it begins, its whole shape, how its value is read).
_LINES: dict[str, tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str], str], float]], ...]] = {
    "load": ((r"Session creation time cost:", re.compile(rf"Session creation time cost: {_TIME}"), _time),),
    "first": ((r"First inference time cost:", re.compile(rf"First inference time cost: {_TIME}"), _time),),
    "total": (
        (r"Total inference time cost:", re.compile(rf"Total inference time cost: {_TIME}"), _time),
        (r"Total time cost:", re.compile(rf"Total time cost: ?({NUMBER})(?: ?s)?"), _seconds),
    ),
    "count": (
        (r"Total inference requests:", re.compile(r"Total inference requests: (\d+)"), _whole),
        (r"Total iterations:", re.compile(r"Total iterations: ?(\d+)"), _whole),
        (r"\bRuns:", re.compile(r"Runs: ?(\d+)"), _whole),
    ),
    "avg": (
        (
            r"Average (?:inference )?time cost(?: total)?:",
            re.compile(rf"Average (?:inference )?time cost(?: total)?: ?{_TIME}"),
            _time,
        ),
    ),
    "peak": (
        (r"Peak working set size:", re.compile(r"Peak working set size:(?: (?=\d+ bytes))?(\d+)(?: bytes)?"), _whole),
    ),
    **{
        name: ((rf"{name} Latency\b", re.compile(rf"{name} Latency(?:: ?| is ){_TIME}"), _time),)
        for name in ("Min", "Max", "P50", "P90", "P95", "P99", "P999")
    },
}


def read(text: str) -> RunnerResult:
    """One run's result. Raises BadOutput as `parse_litert.read` does."""
    lines = [line.strip() for line in complete_lines(text)]
    values: dict[str, list[float]] = {name: [] for name in _LINES}
    iterations: dict[int, float] = {}
    for line in lines:
        if line.startswith("iteration:"):
            if not (found := _ITERATION.fullmatch(line)):
                raise unreadable(TOOL, '"iteration:…,time_cost:…"', line)
            index, value = whole_number(found[1], TOOL, line), number(found[2], TOOL, line) * 1000
            agreed(TOOL, f"iteration {index}", (value, iterations.setdefault(index, value)))
            continue
        for name, shapes in _LINES.items():
            for beginning, shape, value_of in shapes:
                if re.search(beginning, line):
                    if not (found := shape.fullmatch(line)):
                        raise unreadable(TOOL, f"a line {beginning!r} and its value", line)
                    values[name].append(value_of(found, line))
    one = {name: agreed(TOOL, name, found) for name, found in values.items()}
    avg, count, total = one["avg"], one["count"], one["total"]
    if avg is None or count is None:
        raise missing(TOOL, WANTED if avg is None else '"Total inference requests: …"', lines, [text])
    if avg == 0 or count == 0:
        raise BadOutput(f"{TOOL}: wanted inferences that took time, found {count:g} of {avg:g} ms each")
    if total is not None and not close(total / count, avg, absolute=1e-6):
        raise BadOutput(f"{TOOL}: wanted {count:g} inferences in {total:g} ms, found an average of {avg:g} ms")
    in_order(TOOL, "the latencies", one["Min"], avg, one["Max"])
    in_order(TOOL, "the latencies", *(one[name] for name in ("Min", "P50", "P90", "P95", "P99", "P999", "Max")))
    return RunnerResult(
        tool=TOOL,
        avg_ms=avg,
        count=int(count),
        median_ms=one["P50"],
        p95_ms=one["P95"],
        min_ms=one["Min"],
        max_ms=one["Max"],
        load_ms=one["load"],
        # 0 is what less than a millisecond was cut to.
        first_ms=one["first"] or None,
        peak_rss_bytes=None if one["peak"] is None else int(one["peak"]),
        samples_ms=_samples(iterations, int(count), avg),
        warnings=() if one["P50"] is not None else ("no percentiles: run it with -s",),
    )


def _samples(iterations: dict[int, float], count: int, avg_ms: float) -> tuple[float, ...]:
    """All inferences' times, which must have the printed average; none where some are not there."""
    if len(iterations) != count or min(iterations) != 1 or max(iterations) != count:
        return ()
    samples = tuple(iterations[index] for index in range(1, count + 1))
    if not close(sum(samples) / count, avg_ms, absolute=1e-6):
        raise BadOutput(
            f"{TOOL}: wanted iterations with an average of {avg_ms:g} ms, found {sum(samples) / count:g} ms"
        )
    return samples
