"""verify.json and verdict.json: what a file's outputs are worth, and whether anything may build on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pocketforge.outcomes.accuracy import OutputScore
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.limits import Limits


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One comparison of a file with what was wanted of it.

    Attributes:
        name: What was compared, and of which output where there are several.
        wanted: In words.
        found: In words.
        passed: Whether it is as wanted.
    """

    name: str
    wanted: str
    found: str
    passed: bool


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """One output held against the reference's, and against its own quantized graph's where there is one.

    Figures have the names that limits have without min_ or max_; None where an output has no such figure. SQNR is
    signal to quantization noise ratio, in dB; steps are of the output's scale (LSB).

    Attributes:
        name: The output's.
        dtype: Of the reference's values.
        where: Figure → the part of the output that it is of, as `channel 4`.
        argmax_agreement: Share of samples with the same largest score, of one of several outputs that score classes.
        sqnr_db: Of the whole output.
        max_abs_diff: The largest absolute difference.
        max_diff_ratio: That over the reference's largest magnitude, or a channel's largest range where that is less.
        channel_sqnr_db: Of the worst channel.
        region_sqnr_db: Of the worst row or column.
        dead_channels: How many answer one value where the reference varies.
        integer_agreement: Share of equal values, of integers and booleans.
        max_steps: The largest difference from the same file on the host, in steps.
        graph_sqnr_db: Against the quantized graph.
        max_steps_from_graph: The largest difference from the quantized graph, in steps.
        graph_integer_agreement: Share of values equal to the quantized graph's.
        quantized_sqnr_db: Of the quantized graph against the reference: what quantizing itself cost.
        quantized_max_steps: The same, in steps.
    """

    OMIT_UNSET: ClassVar[bool] = True

    name: str
    dtype: str
    where: Mapping[str, str]
    argmax_agreement: float | None = None
    sqnr_db: float | None = None
    max_abs_diff: float | None = None
    max_diff_ratio: float | None = None
    channel_sqnr_db: float | None = None
    region_sqnr_db: float | None = None
    dead_channels: int | None = None
    integer_agreement: float | None = None
    max_steps: float | None = None
    graph_sqnr_db: float | None = None
    max_steps_from_graph: float | None = None
    graph_integer_agreement: float | None = None
    quantized_sqnr_db: float | None = None
    quantized_max_steps: float | None = None

    def figure(self, name: str) -> float | None:
        """A figure by its name. Raises AttributeError for one that no output has."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True, slots=True)
class Measured:
    """What a file's outputs are worth. Figures are of the worst output (see OutputFigures); None where none has one.

    Attributes:
        outputs: Every output that could be compared.
        samples: On how many samples; 0 where a file is held against another run of itself.
        accuracy: Every metric by its name, of the first output that has it; empty where that is not the model's.
        accuracy_drop: How much lower top-1 is than the reference's, a share of the samples; of a classification.
        argmax_agreement: Share of samples with the same largest score as the reference's.
        graph_argmax_agreement: The same against the quantized graph.
        sqnr_db: The lowest.
        graph_sqnr_db: The lowest.
        integer_agreement: The lowest.
        max_abs_diff: The largest.
        max_diff_ratio: The largest.
        max_steps_from_graph: The largest.
        max_steps: The largest.
        worst_output: Name of the output with the lowest SQNR; empty where none could be compared.
        scores: The metrics of every output that has a role, each with its drop.
        unscored: Output → why it has no metrics: what it holds cannot be what its role says.
    """

    OMIT_UNSET: ClassVar[bool] = True

    outputs: tuple[OutputFigures, ...]
    samples: int = 0
    accuracy: Mapping[str, float] = field(default_factory=dict)
    accuracy_drop: float | None = None
    argmax_agreement: float | None = None
    graph_argmax_agreement: float | None = None
    sqnr_db: float | None = None
    graph_sqnr_db: float | None = None
    integer_agreement: float | None = None
    max_abs_diff: float | None = None
    max_diff_ratio: float | None = None
    max_steps_from_graph: float | None = None
    max_steps: float | None = None
    worst_output: str = ""
    scores: tuple[OutputScore, ...] = ()
    unscored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AtSize:
    """One file at one size of its inputs.

    Attributes:
        role: Of the file.
        sizes: The length of each size that varies, by name.
        outputs: Output → its shape there, batch first.
        measured: What its outputs are worth; of a few samples, without targets.
    """

    role: str
    sizes: Mapping[str, int]
    outputs: Mapping[str, tuple[int, ...]]
    measured: Measured


@dataclass(frozen=True, slots=True)
class Verified:
    """What stage `verify` found.

    Attributes:
        files: Role of a file → what its outputs are worth; `legacy` is the model file in the older TFLite runtime,
            `mediapipe_resize` the model file fed pictures that MediaPipe resized; `litert_js`, `onnxruntime_web` and
            `onnxruntime_web_ort` are files in a browser.
        runtimes: Runtime with its version → `works`, or what is wrong there.
        limits: What the outputs were held to.
        checks: Every comparison that was made.
        kernels: Those of the machine that it ran on (devices/kernels.py).
        outputs: The model file's outputs as its runtime sees them; model/outputs_0.npy and so on hold their values.
        sizes: Each file at each size that it was tried at; none where sizes of inputs are fixed.
        warnings: What a user should know of the checks, in words.
        not_judged: Why this machine's kernels say nothing of the outputs, in words: they were held to nothing, and
            have no figures. Empty where they were.
    """

    FILE: ClassVar[str] = "verify.json"

    files: Mapping[str, Measured]
    runtimes: Mapping[str, str]
    limits: Limits
    checks: tuple[FileCheck, ...]
    kernels: str
    outputs: tuple[TensorSpec, ...]
    sizes: tuple[AtSize, ...] = ()
    warnings: tuple[str, ...] = ()
    not_judged: str = ""

    def __post_init__(self) -> None:
        if "model" not in self.files:
            raise ValueError(f"files must have the model, found {', '.join(self.files) or 'none'}")
        if not self.runtimes:
            raise ValueError("runtimes must have the one that ran the model, found none")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether steps may build on a file.

    Attributes:
        passed: Whether every check passed.
        reasons: What did not, in words.
    """

    FILE: ClassVar[str] = "verdict.json"

    passed: bool
    reasons: tuple[str, ...] = ()


def verdict(checks: Iterable[FileCheck], where: str = "") -> Verdict:
    """Every check has to pass. where: what reasons begin with."""
    reasons = tuple(f"{where}{c.name}: wanted {c.wanted}, found {c.found}" for c in checks if not c.passed)
    return Verdict(not reasons, reasons)


def named(check: FileCheck, prefix: str) -> FileCheck:
    """A check whose name begins with the file or the runtime that it is of."""
    return dataclasses.replace(check, name=f"{prefix}: {check.name}")
