"""What quantizers.json holds: weights quantized in several ways at equal bits. No torch."""

from __future__ import annotations

import builtins  # fields named float and bytes hide the types of those names from the fields below them
from dataclasses import dataclass

from pocketforge.studies.cells import Plain


@dataclass(frozen=True, slots=True)
class LayerError:
    """One weight, quantized.

    Attributes:
        name: The weight's.
        float: Whether it stayed float, since indices and levels would take as much.
        mse: Mean squared error.
        sqnr_db: Signal to quantization noise.
    """

    name: str
    float: bool
    mse: builtins.float
    sqnr_db: builtins.float


@dataclass(frozen=True, slots=True)
class QuantizerRow(Plain):
    """One quantizer at one number of bits. Sizes are of the whole model's weights and biases.

    Attributes:
        quantizer: A key of QUANTIZERS.
        bits: Of each weight's index.
        weight_mse: Over all quantized weights together.
        weight_sqnr_db: The same, signal to quantization noise.
        output_sqnr_db: Against the float model on the calibration samples.
        accuracy: The recipe's metric on the eval samples.
        packed_bytes: Indices of `bits` bits, levels or scales, the rest in float32.
        packed_gzip_bytes: That compressed.
        entropy_bytes: Were indices entropy coded.
        float_gzip_bytes: gzip of the same weights as float32, which is what an .onnx, .pte or .tflite without codebooks
            takes to download.
        layers: Weight by weight.
    """

    quantizer: str
    bits: int
    weight_mse: float
    weight_sqnr_db: float
    output_sqnr_db: float
    accuracy: float
    packed_bytes: int
    packed_gzip_bytes: int
    entropy_bytes: int
    float_gzip_bytes: int
    layers: tuple[LayerError, ...]


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The model before.

    Attributes:
        accuracy: The recipe's metric on the eval samples.
        bytes: Of its weights and biases in float32.
        gzip_bytes: These compressed.
    """

    accuracy: float
    bytes: int
    gzip_bytes: int


@dataclass(frozen=True, slots=True)
class QuantizerStudy(Plain):
    """quantizers.json.

    Attributes:
        version: Of this form.
        recipe: Its name.
        metric: The recipe's.
        bits: Those that were asked for.
        quantizers: Names of all that were compared.
        eval_samples: That accuracies are of.
        calibration_samples: That the outputs' SQNR is of.
        weights: How many weight tensors were quantized.
        weight_values: How many numbers these are.
        float: The model before.
        rows: One for each number of bits and quantizer.
    """

    version: int
    recipe: str
    metric: str
    bits: tuple[int, ...]
    quantizers: tuple[str, ...]
    eval_samples: int
    calibration_samples: int
    weights: int
    weight_values: int
    float: FloatModel
    rows: tuple[QuantizerRow, ...]
