"""How far a quantized graph is from itself when what lies between two of its levels goes to the other one.

A runtime sums in another order or in fixed point, and rounds such values the other way. Mostly that is a step of the
output. Where a later layer divides by almost nothing (a norm of a row that varies by two steps), it is many, and no
runtime could be nearer: the graph itself is no nearer to its twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pocketforge.model.evaluate import evaluate

# Of a step, before each rounding. Sums in fixed point lose more than the first; the second is the most that any loses.
NUDGES = (1e-5, 1e-3)
DRAWS = 8


class _Nudged(torch.fx.Interpreter):
    def __init__(self, module: torch.fx.GraphModule, share: float) -> None:
        super().__init__(module)
        self.share = share

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if "quantize_per_tensor" in str(target) and "dequantize" not in str(target) and isinstance(args[1], float):
            nudge = (torch.rand_like(args[0]) * 2 - 1) * self.share * args[1]
            args = (args[0] + nudge, *args[1:])
        return super().call_function(target, args, kwargs)


def nudged_answers(program: torch.export.ExportedProgram, samples: list[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    """All outputs, once a draw, samples first: the graph's own with every value nudged before it is rounded."""
    module, found = program.module(), []
    with torch.random.fork_rng(devices=[]):
        for draw in range(DRAWS * len(NUDGES)):
            torch.manual_seed(draw)
            nudged = _Nudged(module, NUDGES[draw % len(NUDGES)])
            found.append(evaluate(nudged.run, samples, lambda _: None))
    return found


def goes_either_way(answer: NDArray[Any], own: NDArray[Any], nudged: list[NDArray[Any]], allowed: float = 0.0) -> bool:
    """Whether an output of a file is, in each sample, no further from its graph's own than a nudged graph is there.

    allowed: a difference that is right anyway. False of other outputs than floats.
    """
    if own.dtype.kind != "f" or answer.shape != own.shape or not np.isfinite(answer).all():
        return False
    most = np.max([_off(each, own) for each in nudged], axis=0)
    return bool((_off(answer, own) <= np.maximum(most, allowed)).all())


def _off(answer: NDArray[Any], own: NDArray[Any]) -> NDArray[np.float64]:
    """The largest difference of each sample."""
    difference: NDArray[np.float64] = np.abs(answer.astype(np.float64) - own).reshape(len(own), -1).max(1)
    return difference
