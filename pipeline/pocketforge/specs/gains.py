"""What `gains` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.output import Output
from pocketforge.specs.base import Spec
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class GainsSpec(Spec):
    """Stage `gains`.

    Attributes:
        model: The model as given, before any change.
        model_inputs: The recipe's `[[model.input]]`; () where it names none.
        task: `classification`, `regression` or `outputs`.
        metric: The recipe's, by which each state is judged: `NAME` or `OUTPUT.NAME`.
        outputs: What each output is, in the recipe's words; the task's where it says none.
        output_names: What the recipe calls the model's outputs; () where it does not.
        labels: What the states after each change are called, in order.
        runtimes: Each state is exported to each of these, and timed there.
        model_layout: Of the PyTorch model's images, `NCHW` or `NHWC`.
        host: The processor that the files are timed on.
    """

    model: ModelSource
    model_inputs: tuple[InputSpec, ...]
    task: str
    metric: str
    outputs: tuple[Output, ...]
    output_names: tuple[str, ...]
    labels: tuple[str, ...]
    runtimes: tuple[str, ...]
    model_layout: str
    host: str
