"""reference.json: what the traced PyTorch model is, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.accuracy import OutputScore


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """One input or output of the model in PyTorch.

    Attributes:
        name: The recipe's, else `input`, `output_0` and so on.
        shape: With the batch of 1 first.
        dtype: NumPy's name of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class WeightsRead:
    """How a file of weights was read.

    Attributes:
        file: Its name.
        key: What of it (a recipe's `weights_key`).
        done: What was done to its content, in words.
    """

    file: str
    key: str
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What stage `reference` found.

    Attributes:
        parameters: How many values the model has to learn.
        macs: Multiply-accumulates of one inference.
        accuracy: Every metric by its name, on the eval samples: of the first output that has it.
        eval_samples: How many those are.
        inputs: What the model takes, in order.
        outputs: What it answers, in order; outputs_0.npy and so on hold the answers.
        weights: How the weights were read; None where the definition brings its own.
        scores: The metrics of every output that has a role.
        kept: Positions of the model's outputs that files have, where the recipe leaves some out; empty for all.
    """

    FILE: ClassVar[str] = "reference.json"
    OMIT_UNSET: ClassVar[bool] = True

    parameters: int
    macs: int
    accuracy: Mapping[str, float]
    eval_samples: int
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    weights: WeightsRead | None = None
    scores: tuple[OutputScore, ...] = ()
    kept: tuple[int, ...] = ()
