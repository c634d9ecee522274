"""why.json: every form that a target's model took, and where its numbers break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FormFound:
    """One form of the model against the one before it and against the first. Figures are of its worst output.

    Attributes:
        name: One of why.limits.STAGES.
        about: What was run, in words.
        missing: Why there is no such form, in words; then it has no figures. Empty where it was run.
        before: The form that it is compared with; empty for the first.
        output: The model's output that is worst here.
        sqnr_db_from_first: Signal to noise ratio, the first form's output being the signal; 200 is no difference.
        sqnr_db: The same with the form before as the signal.
        max_abs_diff: The largest difference from the form before; None of integers.
        argmax_agreement: Share of the samples with the class of the form before; of the first output of classifiers.
        argmax_agreement_from_first: The same with the first form's class.
        bad: Whether a limit was passed.
        reasons: Which limits were, in words.
    """

    name: str
    about: str
    missing: str
    output: str
    before: str = ""
    sqnr_db_from_first: float | None = None
    sqnr_db: float | None = None
    max_abs_diff: float | None = None
    argmax_agreement: float | None = None
    argmax_agreement_from_first: float | None = None
    bad: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerFound:
    """One layer of the form that was looked into, against the form before.

    Attributes:
        layer: Its name in the traced graph.
        op: What it computes: conv2d, linear, add …
        sqnr_db: Signal to noise ratio of its output with the inputs that come.
        own_sqnr_db: The same with the inputs of the form before: what the layer adds by itself. None where a form
            cannot be given other inputs.
        channel: Its worst channel, as in `channel 3`; empty where none has values enough that vary.
        channel_sqnr_db: That channel's, about its mean.
        range_before: Least and largest value of its output in the form before; None where none was finite.
        range: The same here.
    """

    layer: str
    op: str
    sqnr_db: float
    own_sqnr_db: float | None
    channel: str
    channel_sqnr_db: float | None
    range_before: tuple[float, float] | None
    range: tuple[float, float] | None

    @property
    def judged_db(self) -> float:
        """What says most of the layer itself."""
        return self.sqnr_db if self.own_sqnr_db is None else self.own_sqnr_db


@dataclass(frozen=True, slots=True)
class Explained:
    """What stage `why` found.

    Attributes:
        target: The target's name.
        runtime: Of its file.
        scheme: How it is quantized.
        samples: How many eval samples the forms were run on.
        layer_samples: How many of them the layers were looked at on.
        stages: The forms, in order.
        first_bad_stage: Name of the first that is bad; empty where none is.
        output: The output that is worst in the form that was looked into.
        layers_of: Name of that form: the first bad one, else the one that costs most.
        layers: Its layers, in order.
        layers_missing: Why there are none, in words; empty where there are.
        layer_limit_db: A bad form's layer below it is named.
        first_bad_layer: The layer that is named; empty where none can be.
        likely: What its difference looks like, in words; empty where no form is bad.
        sentence: All of it in one sentence.
    """

    FILE: ClassVar[str] = "why.json"

    target: str
    runtime: str
    scheme: str
    samples: int
    layer_samples: int
    stages: tuple[FormFound, ...]
    first_bad_stage: str
    output: str
    layers_of: str
    layers: tuple[LayerFound, ...]
    layers_missing: str
    layer_limit_db: float
    first_bad_layer: str
    likely: str
    sentence: str = ""

    @property
    def named_layer(self) -> LayerFound | None:
        """The layer of `first_bad_layer`."""
        return next((each for each in self.layers if each.layer == self.first_bad_layer), None)
