"""data.json: which samples a recipe's data gave, and how they were prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SampleTensor:
    """What one sample has of one model input, or of the targets.

    Attributes:
        shape: Without a batch dimension.
        dtype: NumPy's name of it.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples there are.

    Attributes:
        source: In all.
        calibration: To take activation ranges from.
        train: To train on.
        eval: To judge files by.
        held_out: In no split.
        duplicates_dropped: Left out because another sample has their content.
    """

    source: int
    calibration: int
    train: int
    eval: int
    held_out: int
    duplicates_dropped: int


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From a raw sample to the model's input, in steps that an app can follow.

    Attributes:
        input: What a raw sample is: HWC, waveform, text or numbers; None where samples are fed as they are.
        output: Layout of the model's input, as NCHW or NCFT; None as above, or where it has none.
        steps: In order: `step` is a step's name, the rest are its numbers.
    """

    input: str | None
    output: str | None
    steps: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class InputPreprocessing:
    """As `Preprocessing`, of one of several raw inputs of a sample.

    Attributes:
        name: The model's input that it becomes, as the recipe names it; the first of them where it becomes several.
        gives: How many inputs of the model it becomes.
        input: What the raw input is: HWC, waveform, text or numbers; None where it is fed as it is.
        output: Layout of the model's input; None where it has none.
        steps: In order: `step` is a step's name, the rest are its numbers.
    """

    name: str
    gives: int
    input: str | None
    output: str | None
    steps: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class PreprocessingOfInputs:
    """As `Preprocessing`, of samples with several inputs.

    Attributes:
        inputs: A list of steps for each raw input, in the order of the model's inputs.
    """

    inputs: tuple[InputPreprocessing, ...]


def layouts_of(prepared: Preprocessing | PreprocessingOfInputs, count: int) -> list[str | None]:
    """The layout that preprocessing gives each of the model's `count` inputs."""
    if isinstance(prepared, Preprocessing):
        return [prepared.output] * count
    return [each.output for each in prepared.inputs for _ in range(each.gives)]


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How often a class is among the eval samples.

    Attributes:
        label: The class's name.
        count: Of how many samples.
    """

    label: str
    count: int


@dataclass(frozen=True, slots=True)
class SliceCount:
    """How often a slice has a value among the eval samples.

    Attributes:
        value: Empty where samples have none.
        count: Of how many samples.
    """

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class SliceColumn:
    """A column by whose values results are told apart: eval_slices.npy (data/slices.py).

    Attributes:
        name: Of the column.
        values: Those of the eval samples, in order.
    """

    name: str
    values: tuple[SliceCount, ...]


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """One target of the eval samples, by name: eval_target_NAME.npy (data/targets_on_disk.py).

    Attributes:
        name: As sources have it: `label`, `mask`, `boxes` …
        shape: Of one sample's; of ragged ones of one entry.
        dtype: NumPy's name of it; `str` for text.
        ragged: Whether samples have different numbers of entries: their lengths lie in eval_target_NAME_lengths.npy.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    ragged: bool = False


@dataclass(frozen=True, slots=True)
class Sampled:
    """What stage `data` wrote.

    Attributes:
        source: As the recipe names it.
        task: classification or regression.
        labels: Class names, in the order of the model's outputs; empty where nobody gives them.
        counts: Samples in all and by split.
        ids_sha256: Split → digest of its samples' ids in order.
        inputs: What each model input gets.
        targets: What is compared with the first output of a task; None where outputs have targets by name.
        preprocess: The steps that were taken.
        eval_histogram: Classes among the eval samples; None for a regression.
        notes: What the data was taken as, in words.
        named: Targets by name, of recipes with [[output]]; empty for a task.
        steps: How many rows a sample has on disk: the steps of a sequence, of a model with states; else 1.
        states: Places of the inputs that are states; empty for other models.
        slices: Columns by whose values results are told apart; empty where the source has none.
        value_max: The raw value that is white, as the source says it (255 of image files); 0 where it says none.
        version: Of this file's keys.
    """

    FILE: ClassVar[str] = "data.json"

    source: str
    task: str
    labels: tuple[str, ...]
    counts: Counts
    ids_sha256: Mapping[str, str]
    inputs: tuple[SampleTensor, ...]
    targets: SampleTensor | None
    preprocess: Preprocessing | PreprocessingOfInputs
    eval_histogram: tuple[ClassCount, ...] | None
    notes: tuple[str, ...]
    named: tuple[NamedTarget, ...] = ()
    steps: int = 1
    states: tuple[int, ...] = ()
    slices: tuple[SliceColumn, ...] = ()
    value_max: float = 0.0
    version: int = 1
