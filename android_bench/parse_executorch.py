"""The messages of ExecuTorch's `executor_runner`.

Source: examples/portable/executor_runner/executor_runner.cpp ("Model loaded in %f ms.", "Iteration %u of %u: %f ms",
"Model executed successfully %u time(s) in %f ms."); on Android runtime/platform/default/android.cpp writes them to the
log only, under the tag `ExecuTorch`; elsewhere runtime/platform/default/posix.cpp writes "I 00:00:05.833558
executorch:executor_runner.cpp:564] message" to stderr. Older versions print the last message only, the oldest without
a time.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from android_bench.errors import BadOutput
from android_bench.runner_texts import NUMBER, RunnerResult, agreed, missing, number, unreadable, whole_number

TOOL = "executor_runner"
LOG_TAG = "ExecuTorch"
WANTED = '"Model executed successfully … time(s) in … ms."'
_POSIX = re.compile(r"[DIEF] (?:\d+:\d\d:\d\d\.\d+ )?\[?executorch:[^\]]*\] ")
_DONE = re.compile(rf"Model executed successfully (\d+) time\(s\) in ({NUMBER}) ms\.")
_DONE_UNTIMED = re.compile(r"Model executed successfully(?: \d+ time\(s\))?\.")
_ITERATION = re.compile(rf"Iteration (\d+) of (\d+): ({NUMBER}) ms")
_LOADED = re.compile(rf"Model loaded in ({NUMBER}) ms\.")
# Half of the last digit of %f.
_ROUNDING_MS = 0.5e-6


def read(messages: Sequence[str]) -> RunnerResult:
    """One run's result, of the messages of one process. Raises BadOutput as `parse_litert.read` does."""
    done: list[tuple[int, float]] = []
    iterations: dict[int, float] = {}
    announced: list[float] = []
    loads: list[float] = []
    for raw in messages:
        message = _POSIX.sub("", raw, count=1).strip()
        if "Model executed successfully" in message:
            if _DONE_UNTIMED.fullmatch(message):
                raise BadOutput(
                    f"{TOOL}: wanted {WANTED}, found {message!r}", "this version prints no times; build a newer one"
                )
            if not (found := _DONE.fullmatch(message)):
                raise unreadable(TOOL, WANTED, raw)
            done.append((whole_number(found[1], TOOL, raw), number(found[2], TOOL, raw)))
        elif re.match(r"Iteration \d", message):
            if not (found := _ITERATION.fullmatch(message)):
                raise unreadable(TOOL, '"Iteration … of …: … ms"', raw)
            index, value = whole_number(found[1], TOOL, raw), number(found[3], TOOL, raw)
            agreed(TOOL, f"iteration {index}", (value, iterations.setdefault(index, value)))
            announced.append(whole_number(found[2], TOOL, raw))
        elif message.startswith("Model loaded in"):
            if not (found := _LOADED.fullmatch(message)):
                raise unreadable(TOOL, '"Model loaded in … ms."', raw)
            loads.append(number(found[1], TOOL, raw))
        elif re.search(r"failed with status 0x", message):
            raise missing(TOOL, WANTED, messages, messages)
    if not done:
        raise missing(TOOL, WANTED, messages, messages)
    count = int(agreed(TOOL, "the number of executions", [float(n) for n, _ in done] + announced) or 0)
    total_ms = agreed(TOOL, "the time of all executions", [ms for _, ms in done]) or 0.0
    if count == 0 or total_ms == 0:
        raise BadOutput(f"{TOOL}: wanted executions that took time, found {count} in {total_ms:g} ms")
    samples, warnings = _samples(iterations, count, total_ms)
    return RunnerResult(
        tool=TOOL,
        avg_ms=total_ms / count,
        count=count,
        median_ms=statistics.median(samples) if samples else None,
        min_ms=min(samples, default=None),
        max_ms=max(samples, default=None),
        std_ms=statistics.pstdev(samples) if samples else None,
        load_ms=agreed(TOOL, "the time to load", loads),
        first_ms=iterations.get(1),
        samples_ms=samples,
        warnings=warnings,
    )


def _samples(iterations: dict[int, float], count: int, total_ms: float) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """All executions' times, which must add up to the total; none where some are not there."""
    average = "the average includes the first execution, which is slower than the others"
    if not iterations:
        return (), (f"this version of {TOOL} prints no iterations: {average}",)
    if any(not 1 <= index <= count for index in iterations):
        raise BadOutput(
            f"{TOOL}: wanted iterations 1 to {count}, found {sorted(iterations)[0]} to {sorted(iterations)[-1]}"
        )
    if len(iterations) < count:
        lost = count - len(iterations)
        return (), (
            f"{lost} of {count} iterations are not in the log (its buffer is small: adb logcat -G 4M): {average}",
        )
    samples = tuple(iterations[index] for index in range(1, count + 1))
    if abs(sum(samples) - total_ms) > (count + 1) * _ROUNDING_MS * 1.01 + 1e-12 * total_ms:
        raise BadOutput(f"{TOOL}: wanted iterations that add up to {total_ms:f} ms, found {sum(samples):f} ms")
    return samples, ()
