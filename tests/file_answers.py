"""Runs a model file in the test's own process: for tests that want its answers, not a process that holds its runtime.

The session and the way it is fed are the runner's own. Starting an interpreter for ExecuTorch takes two seconds, as its
bindings need torch, which such tests have loaded already.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.sessions import runner


def answers(runtime: str, model: Path, samples: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The file's outputs, one array each, of `samples` (an array an input, samples first), on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runtimes deprecate parts of themselves as they are imported
        module = importlib.import_module(f"pocketforge.runtimes.sessions.{RUNTIMES[runtime].session}")
        module.prepare(1)
        session = module.open_session(model, 1)
    assert len(samples) == len(session.inputs), model
    rows = []
    for index in range(len(samples[0])):
        # Copies: a runtime may answer with memory that the next inference writes into.
        rows.append([np.array(output) for output in session.run(runner.feeds(session, samples, index))])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]
