"""The schemes: every way to quantize a target, and all that anybody looks up by a scheme's name.

A row says what a scheme is to recipes, plans, exporters, `verify` and `why`; who needs a fact of a scheme asks for it
here and never compares names. docs/extending.md says what else a new scheme needs.
"""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pocketforge.plugins import Registry
from pocketforge.recipe import default_limits as limits
from pocketforge.registries import SchemeSupport

Family = Literal["float", "static", "dynamic", "stored"]
Weights = Literal["float32", "float16", "int8", "levels", "codebook"]


@dataclass(frozen=True, slots=True)
class SchemeInfo:
    """One scheme. Every field has to be said but those that few schemes have.

    Attributes:
        family: float: computes as the model does, in what precision `weights` says. static: integers, by ranges that
            are fixed before the file is written. dynamic: integers, by ranges found at each inference. stored: weights
            in few bits, computed in float.
        weights: How a file holds them. float32 and float16: as numbers. int8: as the quantized graph has them. levels:
            integers with scales, which the quantize step writes as encodings. codebook: indices into shared values,
            where the runtime can; else float32.
        stored_as: Data types of which most of a file's weight bytes must be, as `verify` reads them from the file.
            Empty where they are float32, or may be (codebook): nothing in a file's types tells then.
        bits: Of one weight, as the scheme means it; a file may take a whole byte for fewer.
        stage: Which stage makes it: `quantize`, `qat`, or empty where the exporter rounds, or nobody.
        make: Of stage `quantize` the function that makes it, as `module:function` (Make in stages/quantize.py); else
            empty.
        numerics: What the file's numbers are, in words; {granularity}, {bits}, {backend}, {group_size} and {entries}
            are put in (quantization/converted.py).
        first_seen: The form of the model in which the file's numbers are first seen (why/limits.py): `prepared`,
            `lowered` where no graph before it computes with them, empty where they are the model's own.
        keys: The keys of a `quantize` table that are for it; any other is refused.
        limits: Of `verify`: a file's outputs against PyTorch's.
        on_device: Of `verify_device`: against the same file's on the host.
        on_x86: The same on another x86 host.
        support: Runtime → what it makes of it. Ours say it of each of our runtimes; a plug-in's runtime
            has answers of its own (RuntimeInfo.schemes), and is refused by its name without.
        trained_limits: Of `verify`, where the target was trained (`quantize.finetune`) and so is another model than the
            reference; None where training is no choice.
        calibrates: Whether ranges come from calibration samples.
        studies_layers: Whether it needs the study of what each layer costs.
        libraries: Distributions that make it beside those of its stage; their versions are part of keys.
    """

    family: Family
    weights: Weights
    stored_as: tuple[str, ...]
    bits: int
    stage: Literal["", "quantize", "qat"]
    make: str
    numerics: str
    first_seen: Literal["", "prepared", "lowered"]
    keys: frozenset[str]
    limits: Mapping[str, float]
    on_device: Mapping[str, float]
    on_x86: Mapping[str, float]
    support: Mapping[str, SchemeSupport]
    trained_limits: Mapping[str, float] | None = None
    calibrates: bool = False
    studies_layers: bool = False
    libraries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Parity alone cannot tell a file of float weights from what was asked for: it is nearer.
        if bool(self.stored_as) == (self.weights in ("float32", "codebook")):
            raise ValueError(f"stored_as: wanted data types for {self.weights} weights, and none for float32's")
        allowed = _STORED[self.weights]
        if wrong := sorted(set(self.stored_as) - allowed):
            raise ValueError(
                f"stored_as: {wrong[0]!r} holds no {self.weights} weights; wanted {', '.join(sorted(allowed))}"
            )
        least, most = _BITS[self.weights]
        if not least <= self.bits <= most:
            raise ValueError(f"bits: wanted {least} to {most} for {self.weights} weights, found {self.bits}")
        _check_numerics(self.numerics)
        for name in ("limits", "on_device", "on_x86", "trained_limits"):
            _check_limits(name, getattr(self, name) or {})
        if (self.stage == "quantize") != bool(self.make):
            raise ValueError(f"make: wanted a function for stage quantize and for no other, found {self.make!r}")
        if self.calibrates and self.family != "static":
            raise ValueError("calibrates: only a static scheme's ranges come from samples")
        if (self.family != "float") != bool(self.stage):
            raise ValueError(f"stage: wanted one for a {self.family} scheme, found {self.stage!r}")

    def with_library(self, distribution: str) -> SchemeInfo:
        """A plug-in's row names its package for keys."""
        return dataclasses.replace(self, libraries=tuple(dict.fromkeys((*self.libraries, distribution))))

    @property
    def keeps_numbers(self) -> bool:
        """Whether a file computes with the trained model's own numbers."""
        return not self.first_seen

    @property
    def is_float32(self) -> bool:
        """Whether nothing is rounded to fewer bits: files agree but for the order of sums."""
        return self.weights == "float32"

    @property
    def computes_in_integers(self) -> bool:
        """Whether layers do, if not all of them."""
        return self.family in ("static", "dynamic")

    @property
    def is_trained(self) -> bool:
        """Whether the model is always trained for it, and so is another one than the reference."""
        return self.stage == "qat"

    @property
    def rounds_as_quantized(self) -> bool:
        """Whether a file may be as far from its graph as quantizing took the graph from the float model. (A net that
        amplifies roundings is: random weights, hundreds of layers.) Training's way says nothing of rounding."""
        return self.computes_in_integers and not self.is_trained


_FEW_BITS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8))
# Data types that can hold a scheme's weights, by what the weights are; others would make verify's check one of nothing.
_STORED: Mapping[Weights, frozenset[str]] = {
    "float32": frozenset(),
    "float16": frozenset({"float16", "bfloat16"}),
    "int8": frozenset({"int8", "uint8"}),
    "levels": _FEW_BITS,
    "codebook": frozenset(),
}
_BITS: Mapping[Weights, tuple[int, int]] = {
    "float32": (32, 32),
    "float16": (16, 16),
    "int8": (2, 8),
    "levels": (1, 8),
    "codebook": (1, 32),
}
_PUT_IN = frozenset({"granularity", "bits", "backend", "group_size", "entries"})


def _check_numerics(numerics: str) -> None:
    """Raises ValueError for words that cannot be filled in, which would end a build after its quantizing."""
    names = {name for _, name, _, _ in string.Formatter().parse(numerics) if name is not None}
    if not numerics or names - _PUT_IN:
        raise ValueError(f"numerics: wanted words with {', '.join(sorted(_PUT_IN))} to put in, found {numerics!r}")


def _check_limits(field: str, numbers: Mapping[str, float]) -> None:
    """Raises ValueError for a limit that nothing would be held against."""
    if unknown := sorted(set(numbers) - limits.KNOWN):
        raise ValueError(f"{field}: {unknown[0]!r} is no limit; known: {', '.join(sorted(limits.KNOWN))}")
    if wrong := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(f"{field}: {wrong[0]} must be finite, found {numbers[wrong[0]]}")


def _fault_of_plugin(info: SchemeInfo) -> str:
    """Why a package cannot bring this scheme: nothing would see that a file is not of it."""
    if not info.stored_as and info.family != "float":
        return (
            f'weights = "{info.weights}" of family "{info.family}": a file of any weights would pass, as nothing in it '
            "tells them from float32's"
        )
    for field, needed in (
        ("limits", limits.NEEDED),
        ("on_device", limits.NEEDED_ON_DEVICES),
        ("on_x86", limits.NEEDED_ON_DEVICES),
    ):
        if missing := sorted(needed - set(getattr(info, field))):
            return f"{field} must also have {', '.join(missing)}: a file that is wrong there would pass"
    if info.trained_limits is not None and not info.trained_limits:
        return "trained_limits is empty: any trained file would pass; None where training is no choice"
    return ""


def _in_all(how: Literal["native", "emulated"], why: str) -> dict[str, SchemeSupport]:
    return {runtime: SchemeSupport(how, why) for runtime in ("executorch", "tflite", "onnx")}


_NO_WEIGHT_ONLY = SchemeSupport(
    "refused",
    "XNNPACK takes no float inputs with int8 or int4 weights from ExecuTorch, so portable kernels would unpack them in "
    "each inference",
    "static_int8, or dynamic_int8 for linear layers",
)
_WIDENED = SchemeSupport("emulated", "half-precision weights, widened when the file is loaded, computed in float32")
_DEQUANTIZED = SchemeSupport("emulated", "int8 weights, de-quantized when the file is loaded, computed in float32")
_CLUSTERED = SchemeSupport("emulated", "clustered float32 weights: smaller in gzip (a download) only")
_INT8 = ("int8", "uint8")
_MAKE_INT8 = "pocketforge.stages.quantize:make_int8"
_MAKE_WEIGHT_ONLY = "pocketforge.stages.quantize:make_weight_only"
_STATIC_NUMERICS = "static int8, {granularity} weights{bits}, backend {backend}"
_OF_STATIC = frozenset({"backend", "per_channel", "weight_bits", "overrides"})
_OF_CALIBRATION = frozenset({"calibration", "calibration_samples", "percentile"})

_SCHEMES: dict[str, SchemeInfo] = {
    "fp32": SchemeInfo(
        family="float",
        weights="float32",
        stored_as=(),
        bits=32,
        stage="",
        make="",
        numerics="the numbers of the trained model",
        first_seen="",
        keys=frozenset(),
        limits=limits.FLOAT32,
        on_device=limits.FLOAT_ON_DEVICE,
        on_x86=limits.FLOAT_ON_X86,
        support=_in_all("native", "as trained"),
    ),
    "fp16": SchemeInfo(
        family="float",
        weights="float16",
        stored_as=("float16",),
        bits=16,
        stage="",  # each runtime's own converter rounds the weights, and there is nothing to choose
        make="",
        numerics="weights in half precision",
        first_seen="lowered",
        keys=frozenset(),
        limits=limits.FLOAT16,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.FLOAT_ON_X86,
        support={
            "executorch": SchemeSupport(
                "native",
                "linear layers in half precision; a model of mostly convolutions fails: XNNPACK keeps their weights "
                "fp32",
            ),
            "tflite": _WIDENED,
            "onnx": _WIDENED,
        },
    ),
    "static_int8": SchemeInfo(
        family="static",
        weights="int8",
        stored_as=_INT8,
        bits=8,
        stage="quantize",
        make=_MAKE_INT8,
        numerics=_STATIC_NUMERICS,
        first_seen="prepared",
        keys=_OF_STATIC | _OF_CALIBRATION | {"repairs"},
        limits=limits.STATIC,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.INTEGER_ON_X86,
        support=_in_all("native", "int8 kernels"),
        calibrates=True,
    ),
    "dynamic_int8": SchemeInfo(
        family="dynamic",
        weights="int8",
        stored_as=_INT8,
        bits=8,
        stage="quantize",
        make=_MAKE_INT8,
        numerics="dynamic int8 in linear layers and, in onnx, LSTMs: {granularity} int8 weights{bits}, activations by "
        "each inference's range",
        first_seen="prepared",
        keys=frozenset({"per_channel", "weight_bits", "overrides"}),
        limits=limits.DYNAMIC,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.INTEGER_ON_X86,
        support={
            **_in_all("native", "linear layers in int8 kernels, all else float"),
            "onnx": SchemeSupport("native", "linear layers and LSTMs in int8 kernels, all else float"),
        },
    ),
    "weight_only_int8": SchemeInfo(
        family="stored",
        weights="levels",
        stored_as=("int8",),
        bits=8,
        stage="quantize",
        make=_MAKE_WEIGHT_ONLY,
        numerics="weights in int8 ({granularity}), all else computed in float32",
        first_seen="prepared",
        keys=frozenset({"per_channel"}),
        limits=limits.EIGHT_BITS,
        on_device=limits.FLOAT_ON_DEVICE,
        on_x86=limits.FLOAT_ON_X86,
        support={"executorch": _NO_WEIGHT_ONLY, "tflite": _DEQUANTIZED, "onnx": _DEQUANTIZED},
    ),
    "weight_only_int4": SchemeInfo(
        family="stored",
        weights="levels",
        stored_as=("int4", "int8"),  # the .ort format has no 4-bit type: there they take a byte each
        bits=4,
        stage="quantize",
        make=_MAKE_WEIGHT_ONLY,
        numerics="weights in int4 (a scale for each {group_size} inputs of a channel), all else in float32",
        first_seen="prepared",
        keys=frozenset({"group_size"}),
        limits=limits.FEW_BITS,
        on_device=limits.FLOAT_ON_DEVICE,
        on_x86=limits.FLOAT_ON_X86,
        support={
            "executorch": _NO_WEIGHT_ONLY,
            "tflite": SchemeSupport(
                "emulated",
                "int4 weights, unpacked in each inference, and not by XNNPACK: slower than fp32, 2 to 7 times here",
            ),
            "onnx": SchemeSupport(
                "emulated",
                "int4 weights, de-quantized when the file is loaded, computed in float32; a byte each in .ort",
            ),
        },
    ),
    "qat_int8": SchemeInfo(
        family="static",
        weights="int8",
        stored_as=_INT8,
        bits=8,
        stage="qat",
        make="",
        numerics=f"{_STATIC_NUMERICS}; trained with fake quantization",
        first_seen="prepared",
        keys=_OF_STATIC | {"finetune", "freeze_batch_norm", "freeze_observers"},
        limits=limits.TRAINED,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.INTEGER_ON_X86,
        support=_in_all("native", "int8 kernels"),
    ),
    "mixed": SchemeInfo(
        family="static",
        weights="int8",
        stored_as=_INT8,
        bits=8,
        stage="quantize",
        make=_MAKE_INT8,
        numerics=f"{_STATIC_NUMERICS}; float where measured to be needed",
        first_seen="prepared",
        keys=_OF_STATIC | _OF_CALIBRATION | {"max_accuracy_drop", "minimize"},
        limits=limits.STATIC,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.INTEGER_ON_X86,
        support=_in_all("native", "int8 kernels"),
        calibrates=True,
        studies_layers=True,
    ),
    "codebook": SchemeInfo(
        family="stored",
        weights="codebook",
        stored_as=(),
        bits=32,
        stage="quantize",
        make="pocketforge.stages.quantize:make_codebook",
        numerics="each weight one of at most {entries} values of its layer, computed in float32",
        first_seen="prepared",
        keys=frozenset({"entries", "finetune"}),
        limits=limits.FEW_BITS,
        on_device=limits.INTEGER_ON_DEVICE,
        on_x86=limits.FLOAT_ON_X86,
        support={
            "executorch": _CLUSTERED,
            "tflite": _CLUSTERED,
            "onnx": SchemeSupport(
                "emulated", "indices and centroids, looked up when the file is loaded, computed in float32"
            ),
        },
        trained_limits={**limits.TRAINED, "min_graph_sqnr_db": limits.FEW_BITS["min_graph_sqnr_db"]},
    ),
}


SCHEMES = Registry("schemes", SchemeInfo, _SCHEMES, SchemeInfo.with_library, _fault_of_plugin)


def schemes_with(key: str) -> frozenset[str]:
    """The schemes that a key of a `quantize` table is for, for words."""
    return frozenset(name for name, info in SCHEMES.usable().items() if key in info.keys)
