"""quantize.json: what quantization made of the model (stages `quantize` and `qat`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.mixed import MixedChoice
from pocketforge.outcomes.train import Epoch
from pocketforge.outcomes.weights import CodebookSizes


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer, and how it computes.

    Attributes:
        name: Of its module (`features.0.0`), or of the node where it has no weight.
        op: `conv2d`, `linear` …
        scheme: A scheme of a recipe; "fp32" where it stayed float.
        weights: How many it has.
    """

    name: str
    op: str
    scheme: str
    weights: int

    @property
    def label(self) -> str:
        """For readers."""
        return f"{self.op} ({self.name})"


@dataclass(frozen=True, slots=True)
class OutputLevels:
    """The levels of a quantized output: value = (level - zero_point) · scale.

    Attributes:
        scale: The distance between two levels.
        zero_point: The level of 0.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class EqualizedPair:
    """Two layers whose channels were rescaled against each other.

    Attributes:
        layers: The first's name and the second's.
        channels: How many lie between them.
        least_factor: The smallest that a channel of the first was divided by.
        largest_factor: The largest.
        channels_near_cap: How many were left alone, as their values come near a ReLU6's cap.
    """

    layers: tuple[str, str]
    channels: int
    least_factor: float
    largest_factor: float
    channels_near_cap: int


@dataclass(frozen=True, slots=True)
class Equalization:
    """What repair `equalize` changed.

    Attributes:
        pairs: In the graph's order.
    """

    pairs: tuple[EqualizedPair, ...]


@dataclass(frozen=True, slots=True)
class CorrectedLayer:
    """A layer whose bias was corrected.

    Attributes:
        layer: Its name.
        node: The graph's node.
        mean_shift: Mean over channels of what was taken off, as a share of the float output's standard deviation.
    """

    layer: str
    node: str
    mean_shift: float


@dataclass(frozen=True, slots=True)
class BiasCorrection:
    """What repair `bias_correction` changed.

    Attributes:
        samples: How many calibration samples it was measured on.
        layers: In the graph's order.
        without_bias: Names of quantized layers that have no bias to correct.
    """

    samples: int
    layers: tuple[CorrectedLayer, ...]
    without_bias: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repairs:
    """What each repair changed.

    Attributes:
        equalize: None where it was not asked for.
        bias_correction: None where it was not asked for.
    """

    OMIT_UNSET: ClassVar[bool] = True

    equalize: Equalization | None = None
    bias_correction: BiasCorrection | None = None


@dataclass(frozen=True, slots=True)
class ClusteredWeight:
    """What clustering cost one weight.

    Attributes:
        name: Of the parameter.
        shape: Of the parameter.
        values: How many it has.
        float_bytes: In float32.
        entries: Different values after clustering; 0 for a weight that stays float.
        bits: Of an index.
        entropy_bits: Mean bits an index that an ideal entropy coder would take.
        packed_bytes: Of indices and values.
        mse: Mean squared error of the weight.
        sqnr_db: 10·log10(Σ weight² / Σ error²).
    """

    name: str
    shape: tuple[int, ...]
    values: int
    float_bytes: int
    entries: int
    bits: int
    entropy_bits: float
    packed_bytes: int
    mse: float
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class CodebookChoice:
    """What scheme `codebook` made of the weights.

    Attributes:
        sizes: Of weights.safetensors.
        weights: In the graph's order.
        history: Of fine-tuning the shared values, epoch by epoch; empty without.
    """

    sizes: CodebookSizes
    weights: tuple[ClusteredWeight, ...]
    history: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True)
class TrainedFor:
    """How long the model was trained with fake quantization.

    Attributes:
        epochs: How many it took.
        train_samples: In each.
        trained_on: The GPUs, in words; absent of a training on the CPU.
    """

    OMIT_UNSET: ClassVar[bool] = True

    epochs: int
    train_samples: int
    trained_on: str = ""


@dataclass(frozen=True, slots=True)
class ConcatPart:
    """A part of a concat, over the calibration samples.

    Attributes:
        made_by: What it is: a layer, an operation, an input.
        low: Its smallest value.
        high: Its largest.
        levels: How many levels of a scale that all parts share lie over it.
        shared_db: SQNR in that scale; of a part that no scale harms, None.
        own_db: SQNR in a scale of its own.
    """

    made_by: str
    low: float
    high: float
    levels: float
    shared_db: float | None
    own_db: float | None


@dataclass(frozen=True, slots=True)
class Concat:
    """A concat one of whose parts has too few levels in a scale that all share.

    Attributes:
        name: As an override names it (`cat@head`).
        kept_apart: Whether the concat stays float, so that each part keeps its own scale. Else a layer reads it, which
            has one scale for its input.
        parts: In order.
        float_operations: The concat and what lies between it and an output, which stay float with it.
    """

    name: str
    kept_apart: bool
    parts: tuple[ConcatPart, ...]
    float_operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CalibratedRange:
    """What calibration saw of one tensor, and its levels: value = (level - zero_point) · scale.

    Attributes:
        tensor: What it is: an input, or whose output.
        low: The smallest value that was seen; of a training with fake quantization a moving average of batches.
        high: The largest, likewise.
        scale: The distance between two levels; None where the tensor has none of its own.
        zero_point: The level of 0; None likewise.
    """

    OMIT_UNSET: ClassVar[bool] = True

    tensor: str
    low: float
    high: float
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True)
class Quantized:
    """What quantization made of the model.

    Attributes:
        scheme: The recipe's.
        numerics: What the file's numbers are, in words.
        layers: Convolutions, linear layers and matrix products, recurrent layers and embeddings, in the graph's order;
            one for each call of a module.
        outputs: Of each of the model's outputs its levels; None where it is float.
        mixed: Of scheme `mixed` alone.
        repairs: Where any was asked for.
        codebook: Of scheme `codebook` alone.
        qat: Of scheme `qat_int8` alone.
        concats: Those whose parts are of unlike range.
        told_float: Operations between layers that were kept float, by an override, for a concat, as sums for norms or
            for a logarithm, root or division.
        advice: What to try where a file misses its limits; empty where nothing is known of such a model.
        ranges: Of each activation that calibration observed, in the graph's order; of static schemes alone.
    """

    FILE: ClassVar[str] = "quantize.json"
    OMIT_UNSET: ClassVar[bool] = True

    scheme: str
    numerics: str
    layers: tuple[QuantizedLayer, ...]
    outputs: tuple[OutputLevels | None, ...]
    mixed: MixedChoice | None = None
    repairs: Repairs | None = None
    codebook: CodebookChoice | None = None
    qat: TrainedFor | None = None
    concats: tuple[Concat, ...] = ()
    told_float: tuple[str, ...] = ()
    advice: str = ""
    ranges: tuple[CalibratedRange, ...] = ()

    def in_runtime(self, dynamic_layers: Collection[str]) -> Quantized:
        """What a runtime with kernels for these dynamic layers makes of it: others stay float."""
        layers = tuple(
            dataclasses.replace(layer, scheme="fp32")
            if layer.scheme == "dynamic_int8" and layer.op not in dynamic_layers
            else layer
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers)

    @property
    def quantized(self) -> list[str]:
        """Labels of the layers that do not compute in float."""
        return [layer.label for layer in self.layers if layer.scheme != "fp32"]

    @property
    def left_float(self) -> list[str]:
        """Labels of the layers that do."""
        return [layer.label for layer in self.layers if layer.scheme == "fp32"]
