"""How often a trend tells of a change where there is none, and finds one where there is: `python benchmarks/trends.py`.

Lines of runs are drawn as measured ones are, and judged by the product's own `noisy_changes`. docs/history.md has what
it printed.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable

from pocketforge.history.changes import noisy_changes

Draw = Callable[[random.Random, int], list[float]]
SPREAD = 0.02


def normal(numbers: random.Random, count: int) -> list[float]:
    """Logarithms of runs, of standard deviation 1."""
    return [numbers.gauss(0, 1) for _ in range(count)]


def tailed(numbers: random.Random, count: int) -> list[float]:
    """Student's t of three degrees: now and then a run far off, on either side."""
    return [numbers.gauss(0, 1) / math.sqrt(numbers.gammavariate(1.5, 2) / 3) / math.sqrt(3) for _ in range(count)]


def skewed(numbers: random.Random, count: int) -> list[float]:
    """A floor, and a long tail of slow runs."""
    return [(numbers.lognormvariate(0, 1) - math.exp(0.5)) / 2.161 for _ in range(count)]


def drifting(numbers: random.Random, count: int) -> list[float]:
    """Each run half the one before: a machine with moods."""
    found = [numbers.gauss(0, 1)]
    while len(found) < count:
        found.append(found[-1] / 2 + numbers.gauss(0, math.sqrt(0.75)))
    return found


KINDS: dict[str, Draw] = {
    "normal": normal, "Student's t, 3 degrees": tailed, "log-normal, σ = 1": skewed, "each half the last": drifting,
}  # fmt: skip


def false_alarms(draw: Draw, count: int, trials: int) -> float:
    """The share of lines of which something is told, though nothing changed."""
    numbers = random.Random(count)
    lines = ([math.exp(SPREAD * value) for value in draw(numbers, count)] for _ in range(trials))
    return sum(bool(noisy_changes(line, 0.0)) for line in lines) / trials


def found(before: int, after: int, spread: float, slower: float, trials: int) -> float:
    """The share of lines in which a slower level is told, at its place or a run beside it."""
    numbers = random.Random(f"{before} {after} {spread} {slower}")
    hits = 0
    for _ in range(trials):
        values = [math.exp(spread * value) for value in normal(numbers, before + after)]
        line = [value * (1 + slower * (at >= before)) for at, value in enumerate(values)]
        hits += any(abs(change.at - before) <= 1 for change in noisy_changes(line))
    return hits / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="lines a cell")
    trials = parser.parse_args().trials
    counts = (6, 10, 20, 50, 100)
    print(f"| runs, nothing changed | {' | '.join(map(str, counts))} |\n|---|{'---|' * len(counts)}")
    for name, draw in KINDS.items():
        print(f"| {name} | {' | '.join(f'{false_alarms(draw, count, trials):.1%}' for count in counts)} |", flush=True)
    sides = ((10, 3), (10, 5), (20, 10), (50, 10))
    print(f"\n| spread, slower by | {' | '.join(f'{b} + {a} runs' for b, a in sides)} |\n|---|{'---|' * len(sides)}")
    for spread, slower in ((0.005, 0.02), (0.005, 0.03), (0.01, 0.03), (0.01, 0.05), (0.02, 0.05), (0.02, 0.1)):
        cells = (f"{found(*side, spread, slower, trials):.1%}" for side in sides)
        print(f"| {spread:.1%}, {slower:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
