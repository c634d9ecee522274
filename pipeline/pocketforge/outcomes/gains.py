"""gains.json of stage `gains`: what each step of [[compress]] bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class FloatTiming:
    """A state's float file in one runtime, on the host.

    Attributes:
        size_bytes: Of the file.
        gzip_bytes: Of the file, packed by gzip -9.
        latency_ms: The median of rounds_ms.
        rounds_ms: Median latency of each round.
        ratio: Time over that of the timed state before; None where there is none, or this one was not timed.
        ratio_low: The lower end of its 95 % interval.
        ratio_high: The upper end.
    """

    size_bytes: int
    gzip_bytes: int
    latency_ms: float
    rounds_ms: tuple[float, ...]
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class State:
    """The model as given, or after a step of [[compress]]. Sizes of weights are of a safetensors file.

    Attributes:
        label: What the step is called.
        timed: Whether its files were timed: a step that changes no shape takes the time of the one before.
        parameters: How many numbers its parameters are.
        macs: Multiply-accumulates of one sample.
        zeros: How many of `weights` are 0.
        weights: Weights of layers that can be pruned.
        weights_bytes: Its weights file.
        weights_gzip_bytes: That file, packed by gzip -9.
        sparse_bytes: Its weights stored sparsely.
        sparse_gzip_bytes: That file, packed by gzip -9.
        loss: Mean over the eval samples; None where no output has one.
        runtimes: Runtime → its float file there.
        accuracy_top1: On the eval samples, 0 to 1; None of other tasks.
        metric: The recipe's, `NAME` or `OUTPUT.NAME`, where outputs have roles; empty of a task.
        value: Of that metric on the eval samples; None of a task.
    """

    label: str
    timed: bool
    parameters: int
    macs: int
    zeros: int
    weights: int
    weights_bytes: int
    weights_gzip_bytes: int
    sparse_bytes: int
    sparse_gzip_bytes: int
    loss: float | None
    runtimes: Mapping[str, FloatTiming]
    accuracy_top1: float | None = None
    metric: str = ""
    value: float | None = None

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SlowLayer:
    """A layer that lost MACs and whose time, alone and on its own real input, was not shown to fall.

    Attributes:
        name: Its name in the model.
        macs: Before and after.
        latency_ms: Medians before and after.
        ratio: Time after over time before: mean, lower and upper end of the 95 % interval.
    """

    name: str
    macs: tuple[int, int]
    latency_ms: tuple[float, float]
    ratio: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Flag:
    """A step that lowered MACs and was not shown to lower the time in a runtime.

    Attributes:
        label: The step's.
        runtime: Where.
        verdict: `no_gain`: it surely gained too little; `unsettled`: the timer's noise hides which.
        macs: Of the timed state before, and after.
        ratio: Time after over time before: mean, lower and upper end of the 95 % interval.
        layers: Those responsible; () where the verdict is `unsettled`, or none was found.
    """

    label: str
    runtime: str
    verdict: Literal["no_gain", "unsettled"]
    macs: tuple[int, int]
    ratio: tuple[float, float, float]
    layers: tuple[SlowLayer, ...]


@dataclass(frozen=True, slots=True)
class GainsOutcome:
    """gains.json.

    Attributes:
        states: The model as given first, then one for each step.
        flags: Steps whose time did not fall with their MACs.
    """

    states: tuple[State, ...]
    flags: tuple[Flag, ...]

    FILE: ClassVar[str] = "gains.json"
