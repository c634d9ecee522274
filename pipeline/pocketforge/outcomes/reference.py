"""reference.json: what the traced PyTorch model is, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketforge.outcomes.accuracy import OutputScore
from pocketforge.recipe.sizes import SizeRange, Sizes


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
class StateFed:
    """An input that is an output of the step before.

    Attributes:
        input: Its place among the model's inputs.
        output: The output's place.
        whole: Whether a row of it is the whole tensor, as its batch axis is not the first ([layers, 1, hidden]).
    """

    input: int
    output: int
    whole: bool


@dataclass(frozen=True, slots=True)
class StepSequence:
    """How a model with states goes over sequences.

    Attributes:
        steps: Of each sequence; so many rows of samples and of outputs are one.
        states: What is fed back. At a sequence's first step they are as the samples have them, zeros.
    """

    steps: int
    states: tuple[StateFed, ...]

    @property
    def one_step(self) -> StepSequence:
        """Each row alone, its states as the samples have them."""
        return StepSequence(1, self.states)

    def before_dropping(self, kept: Sequence[int]) -> StepSequence:
        """Of the model with all its outputs. kept: positions of those that files have."""
        return StepSequence(self.steps, tuple(StateFed(s.input, kept[s.output], s.whole) for s in self.states))


@dataclass(frozen=True, slots=True)
class VaryingSizes:
    """What of a model's inputs and outputs has no fixed length, and at which sizes files are compared with it.

    Attributes:
        inputs: Of each input the sizes that vary.
        outputs: Of each output the axes whose lengths follow from them.
        tried: At these sizes, by name; what the model is given and answers at the first lies in size_0, and so on.
    """

    inputs: tuple[tuple[SizeRange, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    tried: tuple[Mapping[str, int], ...]

    def shape_at(self, number: int, shape: Sequence[int], sizes: Sizes) -> tuple[int, ...]:
        """An input's shape, batch first, with the lengths of `sizes`."""
        lengths = {each.axis: sizes[each.name] for each in self.inputs[number]}
        return tuple(lengths.get(axis, length) for axis, length in enumerate(shape))

    def folders(self, reference: Path) -> list[Path]:
        """Of each size that is tried, in the folder of stage `reference` or of one that has its own answers."""
        return [reference / f"size_{number}" for number in range(len(self.tried))]


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
class SharesOf:
    """The layer that an output ends with, where it makes shares of scores, also while the model trains.

    Attributes:
        kind: `softmax` or `sigmoid`.
        layer: Which, in words, with the line of the user's code.
        classes: Of softmax: how many values one share is of; else 0.
        output: The output's name.
    """

    kind: str
    layer: str
    classes: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What stage `reference` found.

    Attributes:
        parameters: How many values the model has to learn; None of a file.
        macs: Multiply-accumulates of one inference; None of a file.
        accuracy: Every metric by its name, on the eval samples: of the first output that has it.
        eval_samples: How many those are.
        inputs: What the model takes, in order.
        outputs: What it answers, in order; outputs_0.npy and so on hold the answers.
        weights: How the weights were read; None where the definition brings its own.
        sequence: Of a model with states; None of others.
        scores: The metrics of every output that has a role.
        kept: Positions of the model's outputs that files have, where the recipe leaves some out; empty for all.
        varying: Where sizes of inputs vary; shapes are those that are evaluated then. None of other models.
        shares: Outputs that softmax or sigmoid is the last layer of.
        file: Name of the model file that answered; empty where the PyTorch model did.
        file_sha256: Of its bytes.
    """

    FILE: ClassVar[str] = "reference.json"
    OMIT_UNSET: ClassVar[bool] = True

    parameters: int | None
    macs: int | None
    accuracy: Mapping[str, float]
    eval_samples: int
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    weights: WeightsRead | None = None
    sequence: StepSequence | None = None
    scores: tuple[OutputScore, ...] = ()
    kept: tuple[int, ...] = ()
    varying: VaryingSizes | None = None
    shares: tuple[SharesOf, ...] = ()
    file: str = ""
    file_sha256: str = ""

    @property
    def title(self) -> str:
        """What answered, in words."""
        return self.file or "the model in PyTorch"
