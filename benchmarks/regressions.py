"""How often a budget with a baseline is wrong, by simulation: `python benchmarks/regressions.py`.

Runs are drawn as measured ones are (each a log-normal value around the file's own), judged by the product's own gate,
and counted: FAIL where nothing changed (A/A), FAIL where the file is 3 % slower, and how often a verdict stays open.
docs/baselines.md has what it printed.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterator

from pocketforge.outcomes.bench import ProcessTimes
from pocketforge.recipe import METRICS, Budget
from pocketforge.records import HowCounted, HowHere, Measurement
from pocketforge.results.regression import judge_regression

SHA = "a" * 64
PROCESSES, SAMPLES = 5, 20


def sitting(numbers: random.Random, centre: float, between: float, within: float) -> Measurement:
    """One run. between, within: standard deviations of the logarithms, of runs and of processes in one."""
    own = centre * math.exp(numbers.gauss(0, between))
    samples: list[float] = []
    processes = []
    for _ in range(PROCESSES):
        place = own * math.exp(numbers.gauss(0, within))
        samples += [place * math.exp(numbers.gauss(0, 0.01)) for _ in range(SAMPLES)]
        processes.append(ProcessTimes(SAMPLES, place, 1.0, 1))
    how = HowHere(1, (0,), 5, "simulated", 0.0, tuple(processes), "simulated")
    return Measurement("latency_ms", own, "ms", "a", SHA, "host", "host", tuple(samples), how)


def verdicts(trials: int, runs: tuple[int, int], spread: float, slower: float, allowed: float) -> Counter[str]:
    """Of that many comparisons. runs: of the baseline, and of the build. slower: the truth, as a share."""
    budget = Budget("latency_ms", baseline="main", max_regression=allowed)
    numbers = random.Random(f"{runs} {spread} {slower} {allowed}")
    found: Counter[str] = Counter()
    for _ in range(trials):
        before, after = (
            [sitting(numbers, centre, spread, spread / 2) for _ in range(count)]
            for centre, count in zip((1.0, 1 + slower), runs, strict=True)
        )
        found[judge_regression(budget, METRICS["latency_ms"], "a", "host", before, after).verdict] += 1
    return found


def table(trials: int) -> Iterator[str]:
    heads = ("runs before, now", "spread of runs", "allowed", "A/A: FAIL", "A/A: PASS", "3 % slower: FAIL", "PASS")
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|"
    for spread, runs, allowed in (
        (0.005, (1, 1), 0.015),
        (0.005, (3, 3), 0.015),
        (0.005, (7, 7), 0.015),
        (0.005, (20, 1), 0.0),
        (0.01, (3, 3), 0.015),
        (0.01, (8, 8), 0.0),
        (0.01, (24, 24), 0.015),
        (0.02, (28, 28), 0.0),
    ):
        alike, slower = (verdicts(trials, runs, spread, share, allowed) for share in (0.0, 0.03))
        shares = (alike["FAIL"], alike["PASS"], slower["FAIL"], slower["PASS"])
        cells = [f"{runs[0]}, {runs[1]}", f"{spread:.1%}", f"{allowed:.1%}", *(f"{n / trials:.1%}" for n in shares)]
        yield f"| {' | '.join(cells)} |"


def counts() -> str:
    """Instructions at a tenth of a percent, every count from 999,000 to 1,002,000."""
    budget = Budget("instructions", baseline="main", max_regression=0.001)
    how = HowCounted(True, "", {}, (), "simulated", "simulated")

    def counted(value: int) -> Measurement:
        return Measurement("instructions", float(value), "instructions", "a", SHA, "emulator", "phone", how=how)

    before, wrong = [counted(1_000_000)], 0
    for value in range(999_000, 1_002_001):
        result = judge_regression(budget, METRICS["instructions"], "a", "phone", before, [counted(value)])
        wrong += result.verdict != ("PASS" if value <= 1_001_000 else "FAIL")
    return f"{wrong} of 3,001 counts around 0.1 % judged wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    for line in table(trials):
        print(line, flush=True)
    print(counts())


if __name__ == "__main__":
    main()
