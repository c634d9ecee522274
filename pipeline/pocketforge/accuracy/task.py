"""The metrics of a task's one output, of arrays in memory."""

from __future__ import annotations

from pocketforge.accuracy.base import Array, Tally
from pocketforge.accuracy.classes import LogitsTally
from pocketforge.accuracy.vectors import RegressionTally


def accuracy(outputs: Array, targets: Array, task: str) -> dict[str, float]:
    """Every metric of the task, by its name in the recipe. outputs, targets: samples first.

    NaN is no answer: scores that hold one are wrong, a value that is one is infinitely far from its target.
    """
    tally: Tally = LogitsTally("y", ranked=False) if task == "classification" else RegressionTally("y")
    tally.add(outputs.reshape(len(outputs), -1), {"y": targets})
    return {name: float(value) for name, value in tally.figures(()).values.items()}
