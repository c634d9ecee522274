"""A backend's numbers (see recipe/backends.py) as the configuration that PT2E's quantizer takes."""

from __future__ import annotations

import dataclasses

from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig

from pocketforge.quantization.observers import activation_observer, weight_levels, weight_observer
from pocketforge.recipe.backends import BACKENDS, STORED_LEVELS
from pocketforge.recipe.quantize import Quantize


def static_config(quantize: Quantize) -> QuantizationConfig:
    """Int8 activations per tensor and int8 weights, as the backend has them, ranges by the calibration's method."""
    backend = BACKENDS[quantize.backend]
    base = get_symmetric_quantization_config(is_per_channel=quantize.by_channel)
    activation = dataclasses.replace(
        base.input_activation,
        quant_min=STORED_LEVELS[0],
        quant_max=STORED_LEVELS[1],
        observer_or_fake_quant_ctr=activation_observer(quantize.calibration, quantize.percentile, backend),
    )
    low, high = weight_levels(backend, quantize.weight_bits)
    weight = dataclasses.replace(
        base.weight,
        quant_min=low,
        quant_max=high,
        observer_or_fake_quant_ctr=weight_observer(backend, quantize.by_channel, quantize.weight_bits),
    )
    return dataclasses.replace(base, input_activation=activation, output_activation=activation, weight=weight)
