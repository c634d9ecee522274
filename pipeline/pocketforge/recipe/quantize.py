"""What `quantize = {…}` of a target may hold: frozen data, cross-field rules checked where it is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pocketforge.recipe.backends import BACKENDS, BackendName
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import suggest
from pocketforge.recipe.ranges import COUNT, SHARE, SHARE_BELOW_ONE, Range, range_faults
from pocketforge.recipe.schemes import SCHEMES, SchemeInfo, schemes_with

Scheme = Annotated[str, SCHEMES]
LayerScheme = Literal["fp32", "static_int8", "dynamic_int8"]
Calibration = Literal["histogram", "minmax", "entropy", "percentile", "mse"]
Repair = Literal["equalize", "bias_correction"]

# The range of a layer over fewer real samples than these says little of what it will meet.
LEAST_CALIBRATION_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Override:
    """Layers, or operations between layers, that are quantized in another way.

    Attributes:
        modules: Shell pattern over the names of layers (`features.0.*`); empty where `ops` says what is meant.
        scheme: Of these; the last override that matches counts.
        ops: Shell patterns over operations between layers, each its kind @ its module (`cat@neck.*`); with `:1` behind
            it the second part of a concat.
    """

    modules: str = ""
    scheme: LayerScheme = "fp32"
    ops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.modules) == bool(self.ops):
            raise ValueError(
                'give one of modules (a layer\'s name or a pattern such as "features.0.*") and ops (operations, as '
                f'["cat@neck.*"]), found {"both" if self.ops else "neither"}'
            )
        for pattern in self.ops:
            if not all(pattern.partition("@")[::2]):
                raise ValueError(f'ops must be kind@module, as "cat@neck.*" or "cat@*", found {pattern!r}')


@dataclass(frozen=True, slots=True)
class Quantize:
    """How a target's file computes. A key that the scheme has no use for is refused.

    Attributes:
        scheme: fp32: as trained. fp16: weights in half precision. static_int8: int8 weights and activations, ranges
            fixed by calibration. dynamic_int8: int8 weights in linear layers, whose inputs are quantized at each
            inference by their own range; nothing is calibrated. weight_only_int8 and weight_only_int4: stored small,
            computed in float. qat_int8: static_int8 after training with fake quantization. mixed: int8 where it costs
            nothing, by measurement. codebook: each weight is one of `entries` values of its layer (k-means).
        per_channel: Whether each output channel has a scale of its own; None: the backend's own.
        calibration: How ranges come from samples.
        backend: Numerics of the static schemes (backends.py).
        percentile: Of calibration percentile: so many percent of the values lie in the range.
        calibration_samples: So many of data.calibration_samples are used; None: all.
        weight_bits: Levels of weights, 2 to 8 bits, stored as int8.
        group_size: Of weight_only_int4: so many inputs of a channel share a scale.
        entries: Of codebook: values of a weight.
        overrides: Layers and operations that are quantized in another way.
        repairs: What is done to the model around calibration, for layers that quantize badly.
        finetune: Training of qat_int8 and codebook; None: three epochs, or none.
        freeze_batch_norm: Share of the epochs after which batch norm's statistics stay as they are.
        freeze_observers: Share of the epochs after which the ranges stay as they are.
        max_accuracy_drop: What mixed may cost in all, as a share of the calibration and train samples.
        minimize: What mixed makes small.
    """

    scheme: Scheme = "fp32"
    per_channel: bool | None = None
    calibration: Calibration = "histogram"
    backend: BackendName = "xnnpack"
    percentile: float = 99.99
    calibration_samples: int | None = None
    weight_bits: int = 8
    group_size: int = 32
    entries: int = 16
    overrides: tuple[Override, ...] = ()
    repairs: tuple[Repair, ...] = ()
    finetune: Finetune | None = None
    freeze_batch_norm: float = 0.5
    freeze_observers: float = 0.75
    max_accuracy_drop: float = 0.005
    minimize: Literal["size_bytes", "estimated_latency_ms"] = "size_bytes"

    RANGES: ClassVar[Mapping[str, Range]] = {
        "percentile": Range(50, 100, open_low=True),
        "calibration_samples": COUNT,
        "weight_bits": Range(2, 8),
        "group_size": Range(16, 65_536),
        "entries": Range(2, 256, unit="(an index is a byte or less)"),
        "freeze_batch_norm": SHARE,
        "freeze_observers": SHARE,
        "max_accuracy_drop": SHARE_BELOW_ONE,
    }

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme: unknown value {self.scheme!r}{suggest(self.scheme, SCHEMES)}")
        faults = [*self._fault_keys(), *self._fault_ranges(), *self._fault_training()]
        if faults:
            raise WrongTable(*map(Fault, faults))

    def _fault_keys(self) -> list[str]:
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        faults = []
        if not self.info.keys <= set(KEYS):  # a plug-in's row
            unknown = ", ".join(sorted(self.info.keys - set(KEYS)))
            return [f"scheme {self.scheme} cannot be used: its row names keys that no `quantize` table has: {unknown}"]
        # A key that another scheme would silently ignore is a mistake.
        for key in KEYS:
            value = getattr(self, key)
            if value != defaults[key] and key not in self.info.keys:
                shown = value if isinstance(value, str | int | float) else "one"
                faults.append(f"{key} is for scheme {' or '.join(sorted(schemes_with(key)))}, found {key} {shown!r} "
                              f"with scheme {self.scheme!r}")  # fmt: skip
        if self.is_static and self.per_channel not in (None, BACKENDS[self.backend].per_channel):
            if self.backend == "qnnpack":
                faults.append("backend qnnpack has one scale for each weight: per_channel = true is backend xnnpack's")
            if self.backend == "fbgemm":
                faults.append("backend fbgemm has a scale for each channel: per_channel = false is backend qnnpack's")
        if not self.info.is_trained and self.finetune is not None and self.finetune.distill is not None:
            always = sorted(name for name, info in SCHEMES.usable().items() if info.is_trained)
            faults.append(f"finetune.distill is for scheme {' or '.join(always)}")
        if self.percentile != defaults["percentile"] and self.calibration != "percentile":
            faults.append(f"percentile is for calibration percentile, found calibration {self.calibration!r}")
        if not self.is_static and any(override.ops for override in self.overrides):
            faults.append(
                f"overrides: ops is for static schemes; with scheme {self.scheme} all of them are float already"
            )
        if any(override.ops and override.scheme == "dynamic_int8" for override in self.overrides):
            faults.append('overrides: scheme of ops must be "fp32" or "static_int8": dynamic_int8 is for linear layers')
        if self.minimize == "estimated_latency_ms":
            faults.append(
                "estimated_latency_ms is not known layer by layer (what a layer costs depends on its neighbours in the "
                "file): use minimize size_bytes, and compare the files with `pocketforge report compare`"
            )
        return faults

    def _fault_training(self) -> list[str]:
        """What training with fake quantization cannot do: its graph has no layers to watch, and no layer is dynamic."""
        if not self.info.is_trained:
            return []
        faults = []
        distill = self.settings.distill
        if distill is not None and (distill.hints or distill.attention):
            faults.append("finetune.distill: hints and attention are for a [[compress]] finetune: use method kd or dkd")
        if self.settings.precision != "fp32":
            faults.append(
                f"finetune.precision must be fp32 with scheme {self.scheme}, found {self.settings.precision!r}"
            )
        if any(override.scheme == "dynamic_int8" for override in self.overrides):
            faults.append("overrides: dynamic_int8 cannot be trained for: use fp32 for the layer")
        return faults

    def _fault_ranges(self) -> list[str]:
        faults = range_faults(self)
        if self.group_size & (self.group_size - 1):
            faults.append(f"group_size must be 16, 32, 64 or another power of two above, found {self.group_size}")
        if len(set(self.repairs)) < len(self.repairs):
            faults.append(f"repairs must be named once each, found {', '.join(self.repairs)}")
        return faults

    @property
    def info(self) -> SchemeInfo:
        """What is known of its scheme."""
        return SCHEMES[self.scheme]

    @property
    def is_int8(self) -> bool:
        """Whether the file computes in int8, if not everywhere."""
        return self.info.computes_in_integers

    @property
    def is_static(self) -> bool:
        return self.info.family == "static"

    @property
    def settings(self) -> Finetune:
        """How QAT trains: as asked, else Finetune's defaults."""
        return self.finetune or Finetune()

    @property
    def by_channel(self) -> bool:
        """Whether each output channel has a scale of its own."""
        return BACKENDS[self.backend].per_channel if self.per_channel is None else self.per_channel

    def settled(self) -> Quantize:
        """With what it leaves to the backend and to training filled in: those that give equal files are equal."""
        per_channel = self.by_channel if "per_channel" in self.info.keys else None
        finetune = self.settings if self.info.is_trained else self.finetune
        return dataclasses.replace(self, per_channel=per_channel, finetune=finetune)


KEYS = tuple(field.name for field in dataclasses.fields(Quantize) if field.name != "scheme")
