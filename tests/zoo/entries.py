"""What a net of the zoo is, and what it is for: frozen data. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

RUNTIMES = ("onnx", "tflite", "executorch")
# A net's module, and the loss of its answer by the targets: torch is imported when they are called.
Make = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What some nets are for: their samples, what their outputs are, by what they are trained.

    Attributes:
        name: In the table.
        recipe: Its part of the recipe, without the first keys and `[model]`; `{size}` is the net's, `{folder}` where
            the files of the samples' functions are.
        metric: By which files are judged.
        loss: A function of losses.py.
        top: The recipe's first keys: task, metric.
    """

    name: str
    recipe: str
    metric: str
    loss: str
    top: str = ""


@dataclass(frozen=True, slots=True)
class Net:
    """An architecture at a size that two cores can take.

    Attributes:
        name: In the table; of files.
        family: What its row stands under.
        task: What it is trained and judged for.
        make: Gives the module, with random weights.
        args: What `make` is called with.
        size: Height and width of the input in pixels, or its length.
        steps: Of training, with batches of `batch` samples; it ends earlier where the loss is low.
        rate: Learning rate of AdamW.
        batch: Samples a step.
        int8: The scheme meant for 8 bits, by runtime; static_int8 where it says nothing.
    """

    name: str
    family: str
    task: Task
    make: Make
    args: Mapping[str, Any] = field(default_factory=dict)
    size: int = 64
    steps: int = 250
    rate: float = 2e-3
    batch: int = 16
    int8: Mapping[str, str] = field(default_factory=dict)

    @property
    def lanes(self) -> tuple[tuple[str, str], ...]:
        """Runtime and scheme of each."""
        return tuple(
            (runtime, scheme)
            for runtime in RUNTIMES
            for scheme in ("fp32", self.int8.get(runtime, "static_int8"))
        )  # fmt: skip
