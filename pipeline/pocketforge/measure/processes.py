"""One file timed on the host in several new processes, some time apart.

A process has its memory where it happens to lie, and a neighbour for as long as it happens to run: samples of one
process, however many, do not show how the next one's differ.
"""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.errors import StageFailed
from pocketforge.outcomes.bench import Bench, HowHere, ProcessTimes
from pocketforge.recipe.device import LEAST_ROUNDS
from pocketforge.stats import percentile

# For quick runs, as tests are: at most so many processes, each right after the last. Intervals are the wider for it.
PROCESSES_VARIABLE = "POCKETFORGE_BENCH_PROCESSES"


def time_in_processes(
    request: RunRequest,
    processes: int,
    spacing_s: float,
    *,
    quiet: bool = False,
    progress: Callable[[float, str], None] = lambda _fraction, _text: None,
) -> Bench:
    """One file's times; `how.host` is for the caller to say.

    request: `samples` and `time_s` are of all processes together, `warmup` of each. Raises as `host.run`, and
    StageFailed for an unusable POCKETFORGE_BENCH_PROCESSES.
    """
    most = _most_processes()
    if most:
        processes, spacing_s = min(processes, most), 0.0
    part = dataclasses.replace(
        request, samples=math.ceil(request.samples / processes), time_s=request.time_s / processes
    )
    answers = []
    worked_s = all_s = 0.0
    for number in range(processes):
        began, before = time.monotonic(), _Work.now()
        answers.append(host.run(part, quiet=quiet))
        after = _Work.now()
        worked_s += (after.all_s - before.all_s) - (after.ours_s - before.ours_s)
        all_s += after.there_s - before.there_s
        progress((number + 1) / processes, f"process {number + 1} of {processes}")
        if number + 1 < processes:
            time.sleep(max(0.0, began + spacing_s - time.monotonic()))
    return Bench(
        sha256=request.sha256,
        samples_ms=tuple(ms for answer in answers for ms in answer.samples_ms),
        load_ms=median(answer.load_ms for answer in answers),
        peak_rss_bytes=max(answer.peak_rss_bytes for answer in answers),
        loaded_rss_bytes=max(answer.loaded_rss_bytes for answer in answers),
        how=HowHere(
            threads=request.threads,
            cpus=answers[0].cpus,
            warmup=request.warmup,
            runtime=answers[0].runtime,
            others=round(min(max(worked_s / all_s, 0.0), 1.0), 3) if all_s else 0.0,
            processes=tuple(
                ProcessTimes(
                    samples=len(answer.samples_ms),
                    p50_ms=percentile(answer.samples_ms, "p50"),
                    load_ms=answer.load_ms,
                    peak_rss_bytes=answer.peak_rss_bytes,
                )
                for answer in answers
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Seconds that all processors have worked, that our own programs have, and that there were on all processors."""

    all_s: float
    ours_s: float
    there_s: float

    @classmethod
    def now(cls) -> _Work:
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(value) for value in file.readline().split()[1:9]]
        # user, nice, system, idle, iowait, irq, softirq, steal: what another machine on this one takes is work as well.
        all_ticks = sum(ticks)
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        worked = all_ticks - ticks[3] - ticks[4]
        return cls(worked * tick_s, sum(r.ru_utime + r.ru_stime for r in own), all_ticks * tick_s)


def _most_processes(environment: Mapping[str, str] = os.environ) -> int:
    """0 where nothing bounds them."""
    given = environment.get(PROCESSES_VARIABLE, "")
    if not given:
        return 0
    if not given.isdecimal() or int(given) < LEAST_ROUNDS:
        raise StageFailed(
            f"{PROCESSES_VARIABLE} must be a number of processes, {LEAST_ROUNDS} or more, found {given!r}"
        )
    return int(given)
