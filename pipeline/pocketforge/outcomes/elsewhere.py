"""elsewhere.json: of a model file that we did not export, how it fits the samples and what it is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from pocketforge.outcomes import files
from pocketforge.outcomes.tensors import TensorSpec

Fed = TypeVar("Fed")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What stage `adopt` found.

    Attributes:
        file: The file's own name.
        scheme: A name of SCHEMES, by how its weights are stored and its operators compute.
        against: What its outputs are held against, in words; empty for nothing, and for the very same file.
        feeds: Of each of its inputs, the place of the samples that it gets.
        answers: Of each of its outputs, the name that it is judged by.
    """

    FILE: ClassVar[str] = "elsewhere.json"

    file: str
    scheme: str
    against: str
    feeds: tuple[int, ...]
    answers: tuple[str, ...]

    def in_words(self) -> str:
        """Which file it is, and what says that it is right."""
        return f"{self.file}, made elsewhere, as it was; held against {self.against or 'its targets alone'}"

    def judged(self, outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The file's outputs, by the names that they are judged by."""
        return tuple(dataclasses.replace(each, name=n) for each, n in zip(outputs, self.answers, strict=True))

    def in_samples_order(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The file's inputs, in the order of what a sample has for them."""
        return tuple(inputs[self.feeds.index(place)] for place in range(len(inputs)))

    def own_name(self, judged: str, outputs: Sequence[TensorSpec]) -> str:
        """The file's own name of an output, by which an app finds it."""
        return outputs[self.answers.index(judged)].name


def elsewhere(export: Path) -> Elsewhere | None:
    """Of a step's folder that holds a model file; None where we exported it."""
    return files.read(export, Elsewhere) if (export / Elsewhere.FILE).exists() else None


def fed(export: Path, samples: Sequence[Fed]) -> tuple[Fed, ...]:
    """What the inputs of the file in `export` get, in its order. samples: of each of the model's inputs."""
    made = elsewhere(export)
    return tuple(samples[place] for place in made.feeds) if made else tuple(samples)


def judged_outputs(export: Path, outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The outputs of the file in `export` by the names of the model's."""
    made = elsewhere(export)
    return made.judged(outputs) if made else tuple(outputs)
