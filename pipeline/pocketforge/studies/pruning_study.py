"""What study.json holds: the cells and rows of a pruning study, its timings and its verdicts.

A cell and a row are flat in the file: what was measured stands beside what was asked, and is not there where it could
not be had. No torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, TypeVar

from pocketforge.outcomes import files
from pocketforge.studies.cells import Plain
from pocketforge.studies.intervals import Mean
from pocketforge.studies.settings import Basis, Settings

# The unpruned model under the same fine-tuning: what training alone brings.
CONTROL: Literal["none"] = "none"
MethodOrNone = Literal["channels", "layers", "unstructured", "both", "none"]
BasisOrNone = Literal["parameters", "macs", ""]
Verdict = Literal["agrees", "disagrees", "not settled"]
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Ask:
    """One cell of the study.

    Attributes:
        method: A way of pruning; "none" for the unpruned model.
        basis: What the ratio is a share of; empty for the unpruned model.
        ratio: Share to remove, 0 to 1.
        seed: Of the training; and of the pruning, where that draws at random.
    """

    method: MethodOrNone
    basis: BasisOrNone
    ratio: float
    seed: int

    @property
    def title(self) -> str:
        """The cell in words."""
        what = "unpruned" if self.method == CONTROL else f"{self.method} {self.ratio:g} of {self.basis}"
        return f"{what}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Removed:
    """Shares that are really gone, 0 to 1.

    Attributes:
        parameters: Of the parameters; zeros in weights count.
        macs: Of the multiply-accumulates.
    """

    parameters: float
    macs: float

    def of(self, basis: Basis) -> float:
        """The share of what `basis` names."""
        return self.parameters if basis == "parameters" else self.macs


@dataclass(frozen=True, slots=True)
class Exported:
    """A model file.

    Attributes:
        error: Why there is none; empty where there is one.
        size_bytes: Of the file; None without one.
        gzip_bytes: Of the file compressed; None without one.
    """

    error: str
    size_bytes: int | None = None
    gzip_bytes: int | None = None

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned model.

    Attributes:
        parameters: Its number of parameters, zeros included.
        macs: Multiply-accumulates of one sample.
        zeros: Weights that a mask holds at zero.
        structure: Names what its speed depends on: equal ones are as fast.
        removed: What is gone.
    """

    parameters: int
    macs: int
    zeros: int
    structure: str
    removed: Removed


@dataclass(frozen=True, slots=True)
class Trained(Plain):
    """A pruned model around its fine-tuning.

    Attributes:
        accuracy_before: Top-1 on eval samples, 0 to 1.
        accuracy_after: The same when it was trained.
        files: Runtime → its file, of the first seed; {} of the others.
    """

    accuracy_before: float
    accuracy_after: float
    files: Mapping[str, Exported]


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one `Ask`.

    Attributes:
        ask: What was asked.
        error: Why it was not reached; empty where it was.
        note: What a reader must know to read the figures right.
        pruned: None where pruning failed.
        trained: None where pruning or training failed.
    """

    ask: Ask
    error: str = ""
    note: str = ""
    pruned: Pruned | None = None
    trained: Trained | None = None

    def to_json(self) -> dict[str, object]:
        """Flat."""
        return {**_flat(self.ask, self.pruned, self.trained), "error": self.error, "note": self.note}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """From `to_json`'s form. Raises ValueError."""
        ask, pruned, trained = _part(data, Ask), _part(data, Pruned), _part(data, Trained)
        if ask is None or (trained is None and not data.get("error")):
            raise ValueError("no cell of a study")
        return cls(ask, str(data["error"]), str(data.get("note", "")), pruned, trained)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row's seeds have in common, and their means.

    Attributes:
        parameters: The first seed's.
        macs: The first seed's.
        zeros: The first seed's.
        structure: The first seed's.
        files: The first seed's.
        removed: Means over the seeds.
        accuracy_before: Top-1 before fine-tuning, over the seeds.
        accuracy_after: Top-1 after it, over the seeds.
    """

    parameters: int
    macs: int
    zeros: int
    structure: str
    files: Mapping[str, Exported]
    removed: Removed
    accuracy_before: Mean
    accuracy_after: Mean


@dataclass(frozen=True, slots=True)
class Latency:
    """A structure's time in one runtime, beside the unpruned model's of the same sitting.

    Attributes:
        ms: Median of the rounds.
        unpruned_ms: The same of the unpruned model.
        ratio: This model's ÷ the unpruned one's.
        low: Lower end of the ratio's 95 % interval.
        high: Its upper end; None of one round, which has no interval.
    """

    ms: float
    unpruned_ms: float
    ratio: float
    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """All seeds of one method, basis and share.

    Attributes:
        method: As in `Ask`.
        basis: As in `Ask`.
        ratio: As in `Ask`.
        note: The first seed's.
        error: Of the first seed that has one; empty for none.
        seeds: How many seeds were reached.
        measured: None where none was.
        latency: Runtime → its time.
    """

    method: MethodOrNone
    basis: BasisOrNone
    ratio: float
    note: str
    error: str
    seeds: int
    measured: Measured | None
    latency: Mapping[str, Latency] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """The row in words."""
        return f"{self.method} {self.ratio:g} of {self.basis}"

    def to_json(self) -> dict[str, object]:
        """Flat."""
        own: dict[str, object] = files.to_json(self)
        del own["measured"]
        return {**own, **_flat(self.measured)}


@dataclass(frozen=True, slots=True)
class Sitting(Plain):
    """Files that were timed together, in turns.

    Attributes:
        runtime: That ran them.
        structures: Names of what was timed; the first is the unpruned model.
        rounds_ms: Of each structure, the median of each round, in the rounds' order.
        error: Why they did not run; empty where they did.
    """

    runtime: str
    structures: tuple[str, ...]
    rounds_ms: tuple[tuple[float, ...], ...]
    error: str

    def rounds_of(self, structure: str) -> tuple[float, ...]:
        """In ms. Raises ValueError for a structure that was not there."""
        return self.rounds_ms[self.structures.index(structure)]


@dataclass(frozen=True, slots=True)
class Side:
    """One row of a pair.

    Attributes:
        ratio: Share that was asked for.
        removed: Share that is gone.
    """

    ratio: float
    removed: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of comparable removed shares.

    Attributes:
        layers: The row of method layers.
        channels: The row of method channels.
        layers_over_channels: Their times' ratio, over the rounds; None where they were not timed together.
    """

    layers: Side
    channels: Side
    layers_over_channels: Mean | None


@dataclass(frozen=True, slots=True)
class Speed:
    """The claim's first half.

    Attributes:
        layers_over_channels: Time of layers ÷ time of channels, over pairs; None where none was timed.
        verdict: None where no runtime was asked for.
    """

    layers_over_channels: Mean | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Price:
    """The claim's second half: top-1 of channels minus top-1 of layers, over seeds.

    Attributes:
        channels_minus_layers_before: Before fine-tuning; None where nothing could be compared.
        channels_minus_layers_after: After it, which the verdict is about.
        verdict: On it.
    """

    channels_minus_layers_before: Mean | None
    channels_minus_layers_after: Mean | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the figures say about the claim, by one measure and in one runtime.

    Attributes:
        claim: In words.
        basis: What shares are of.
        runtime: That was timed; empty where none was.
        verdict: On the whole claim.
        latency: Its first half.
        accuracy: Its second half.
        pairs: The rows that were compared.
        why: Why none were; empty where some were.
    """

    claim: str
    basis: Basis
    runtime: str
    verdict: Verdict
    latency: Speed
    accuracy: Price
    pairs: tuple[Pair, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """The unpruned model.

    Attributes:
        parameters: Its number of parameters.
        macs: Multiply-accumulates of one sample.
        eval_samples: That accuracies are of.
        accuracy: Top-1 as it is given, 0 to 1.
        accuracy_finetuned: Top-1 after the same fine-tuning, over the seeds.
        structure: As `Pruned.structure`.
    """

    parameters: int
    macs: int
    eval_samples: int
    accuracy: float
    accuracy_finetuned: Mean
    structure: str


@dataclass(frozen=True, slots=True)
class PruningStudy:
    """study.json.

    Attributes:
        version: Of this form.
        recipe: Its name.
        host: The machine that timed.
        settings: What was compared.
        baseline: The unpruned model.
        cells: One method, basis, share and seed each.
        rows: One method, basis and share each; the first is the unpruned model.
        sittings: What was timed.
        verdicts: One for each basis and runtime.
    """

    version: int
    recipe: str
    host: str
    settings: Settings
    baseline: Baseline
    cells: Sequence[Cell]
    rows: Sequence[Row]
    sittings: Sequence[Sitting]
    verdicts: Sequence[Judgement]

    def to_json(self) -> dict[str, object]:
        """The content of study.json."""
        return {
            "version": self.version,
            "recipe": self.recipe,
            "host": self.host,
            "settings": dataclasses.asdict(self.settings),
            "baseline": files.to_json(self.baseline),
            "cells": [cell.to_json() for cell in self.cells],
            "rows": [row.to_json() for row in self.rows],
            "sittings": [sitting.to_json() for sitting in self.sittings],
            "verdicts": [files.to_json(verdict) for verdict in self.verdicts],
        }


def _flat(*parts: object) -> dict[str, object]:
    """The fields of all parts, side by side."""
    flat: dict[str, object] = {}
    for part in parts:
        if part is not None:
            flat |= files.to_json(part)
    return flat


def _part(data: Mapping[str, object], kind: type[Part]) -> Part | None:
    """The part of a flat form that `kind` has the fields of; None where none of them is there. Raises ValueError."""
    names = {each.name for each in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    own = {name: value for name, value in data.items() if name in names}
    return files.from_json(own, kind) if own else None
