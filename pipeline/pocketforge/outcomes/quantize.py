"""quantize.json: what quantization made of the model (stages `quantize` and `qat`), and mixed.json, a part of it."""

from __future__ import annotations

import builtins  # a field named float hides the type of that name from those below it
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.train import Epoch


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
class Assignment:
    """Layers left in float, and how far the graph that really is quantized so is from the float model.

    Attributes:
        float: Names of the layers in float.
        drop: As `layers.Score`.
        metric: As `layers.Score`.
        sqnr_db: As `layers.Score`.
    """

    float: tuple[str, ...]
    drop: builtins.float
    metric: builtins.float
    sqnr_db: builtins.float


@dataclass(frozen=True, slots=True)
class FloatOverride:
    """An entry of a recipe's `quantize.overrides`.

    Attributes:
        modules: A layer's name.
        scheme: "fp32".
    """

    modules: str
    scheme: str = "fp32"


@dataclass(frozen=True, slots=True)
class MixedChoice:
    """Which layers scheme `mixed` left in float, and what was measured for it.

    Attributes:
        study: What each layer costs, from which the order of trying comes.
        max_accuracy_drop: What the recipe allows.
        drop: Of the assignment taken.
        sqnr_db: Of the assignment taken.
        float_layers: Names of the layers left in float.
        weight_bytes: Of all layers' weights, so assigned.
        weight_bytes_all_int8: Of the same weights, all in int8.
        tried: Every assignment that was measured, in order.
        overrides: The choice, to be pasted into a recipe with scheme static_int8: the same file without measuring.
    """

    FILE: ClassVar[str] = "mixed.json"

    study: LayerStudy
    max_accuracy_drop: float
    drop: float
    sqnr_db: float
    float_layers: tuple[str, ...]
    weight_bytes: int
    weight_bytes_all_int8: int
    tried: tuple[Assignment, ...]
    overrides: tuple[FloatOverride, ...]


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
class PackedTensor:
    """How a file with codebooks holds one tensor.

    Attributes:
        name: Of the tensor.
        dtype: As safetensors names it.
        shape: Of the tensor.
        encoding: "dense" or "codebook".
        values: How many it has.
        entries: Different values; 0 where dense.
        bits: Of an index; 0 where dense.
        entropy_bits: Mean bits an index that an ideal entropy coder would take; 0 where dense.
        dense_bytes: As it was.
        codebook_bytes: As it is stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    values: int
    entries: int
    bits: int
    entropy_bits: float
    dense_bytes: int
    codebook_bytes: int


@dataclass(frozen=True, slots=True)
class CodebookSizes:
    """What a file with codebooks takes, in bytes. weights.json holds it beside one of a build.

    Attributes:
        dense_bytes: The file as it was.
        codebook_bytes: The file with codebooks.
        gzip_bytes: The file as it was, at gzip's level 9.
        codebook_gzip_bytes: The file with codebooks, at gzip's level 9.
        entropy_bytes: The file with codebooks if its indices took their entropy: what Huffman coding could reach.
        tensors: By name.
        codebooks: Names of the weights that were clustered; () for a file that was packed as it came, where any tensor
            of few values has a codebook.
    """

    FILE: ClassVar[str] = "weights.json"
    OMIT_UNSET: ClassVar[bool] = True

    dense_bytes: int
    codebook_bytes: int
    gzip_bytes: int
    codebook_gzip_bytes: int
    entropy_bytes: int
    tensors: tuple[PackedTensor, ...]
    codebooks: tuple[str, ...] = ()


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
    """

    epochs: int
    train_samples: int


@dataclass(frozen=True, slots=True)
class Quantized:
    """What quantization made of the model.

    Attributes:
        scheme: The recipe's.
        numerics: What the file's numbers are, in words.
        layers: Convolutions, linear layers and matrix products, in the graph's order; one for each call of a module.
        outputs: Of each of the model's outputs its levels; None where it is float.
        mixed: Of scheme `mixed` alone.
        repairs: Where any was asked for.
        codebook: Of scheme `codebook` alone.
        qat: Of scheme `qat_int8` alone.
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

    @property
    def quantized(self) -> list[str]:
        """Labels of the layers that do not compute in float."""
        return [layer.label for layer in self.layers if layer.scheme != "fp32"]

    @property
    def left_float(self) -> list[str]:
        """Labels of the layers that do."""
        return [layer.label for layer in self.layers if layer.scheme == "fp32"]
