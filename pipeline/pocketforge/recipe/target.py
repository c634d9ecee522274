"""One file to ship: its runtime, how it is quantized, and when it counts as wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import Runtime, check_name, suggest
from pocketforge.recipe.package import Package
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.ranges import (
    COUNT_OR_NONE,
    DECIBELS,
    SHARE,
    STEPS_OF_OUTPUT,
    Range,
    check_path,
    check_ranges,
)
from pocketforge.recipe.support import refusal
from pocketforge.registries import RUNTIMES, RuntimeInfo, nearest_formats

Consumer = Literal["mediapipe", "litert_js", "onnxruntime_web", "mobile_checker"]
# Consumer → the runtime whose files it reads, and its name in words.
CONSUMERS: Mapping[str, tuple[str, str]] = {
    "mediapipe": ("tflite", "MediaPipe Tasks"),
    "litert_js": ("tflite", "LiteRT.js"),
    "onnxruntime_web": ("onnx", "onnxruntime-web"),
    "mobile_checker": ("onnx", "ONNX Runtime's mobile usability checker"),
}
_RATIO = Range(0, 10, share=True)


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """Limits of one output of several, by its name; unset ones are those of all outputs.

    Attributes:
        name: Of the output.
        min_sqnr_db: Least SQNR against the PyTorch reference, in dB.
        max_diff_ratio: Largest absolute difference from the reference over its largest magnitude, or over a channel's
            largest range where that is less.
        min_channel_sqnr_db: As min_sqnr_db, of the worst channel.
        min_region_sqnr_db: As min_sqnr_db, of the worst row or column of an image-like output.
        max_dead_channels: So many channels may answer one value where the reference varies.
        min_integer_agreement: Share of equal values of an integer or boolean output, 0 to 1.
        min_graph_sqnr_db: Least SQNR against the quantized graph in PyTorch, not the model before it, in dB.
        max_steps_from_graph: Largest difference from that graph, in steps of the output's scale.
    """

    name: str
    min_sqnr_db: float | None = None
    max_diff_ratio: float | None = None
    min_channel_sqnr_db: float | None = None
    min_region_sqnr_db: float | None = None
    max_dead_channels: int | None = None
    min_integer_agreement: float | None = None
    min_graph_sqnr_db: float | None = None
    max_steps_from_graph: float | None = None

    RANGES: ClassVar[Mapping[str, Range]] = {
        "min_sqnr_db": DECIBELS,
        "max_diff_ratio": _RATIO,
        "min_channel_sqnr_db": DECIBELS,
        "min_region_sqnr_db": DECIBELS,
        "max_dead_channels": COUNT_OR_NONE,
        "min_integer_agreement": SHARE,
        "min_graph_sqnr_db": DECIBELS,
        "max_steps_from_graph": STEPS_OF_OUTPUT,
    }

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class Verify:
    """When a file that loads counts as wrong. Unset limits take the scheme's default (see docs/recipe.md).

    Attributes:
        min_sqnr_db: Least SQNR against the PyTorch reference, in dB.
        max_diff_ratio: Largest absolute difference from the reference over its largest magnitude, or over a channel's
            largest range where that is less.
        min_channel_sqnr_db: As min_sqnr_db, of the worst channel.
        min_region_sqnr_db: As min_sqnr_db, of the worst row or column of an image-like output.
        max_dead_channels: So many channels may answer one value where the reference varies.
        min_argmax_agreement: Share of samples with the same largest class as the reference, 0 to 1.
        min_integer_agreement: Share of equal values of an integer or boolean output, 0 to 1.
        max_accuracy_drop: The most that the task's metric may be worse than the PyTorch model's.
        min_graph_sqnr_db: Least SQNR against the quantized graph in PyTorch, not the model before it, in dB.
        max_steps_from_graph: Largest difference from that graph, in steps of the output's scale.
        outputs: Limits of single outputs.
        tflite_runtime: Of .tflite files: whether the older tflite-runtime must run them too (`require`), is asked if it
            is set up (`report`), or is not asked (`skip`).
    """

    min_sqnr_db: float | None = None
    max_diff_ratio: float | None = None
    min_channel_sqnr_db: float | None = None
    min_region_sqnr_db: float | None = None
    max_dead_channels: int | None = None
    min_argmax_agreement: float | None = None
    min_integer_agreement: float | None = None
    max_accuracy_drop: float | None = None
    min_graph_sqnr_db: float | None = None
    max_steps_from_graph: float | None = None
    outputs: tuple[OutputLimits, ...] = ()
    tflite_runtime: Literal["report", "require", "skip"] = "report"

    RANGES: ClassVar[Mapping[str, Range]] = {
        **OutputLimits.RANGES,
        "min_argmax_agreement": SHARE,
        "max_accuracy_drop": SHARE,
    }

    def __post_init__(self) -> None:
        check_ranges(self)
        names = [each.name for each in self.outputs]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"outputs: {', '.join(sorted(twice))} is named twice")


@dataclass(frozen=True, slots=True)
class Target:
    """One file to ship: a runtime and how it is quantized. Names are unique in a recipe.

    Attributes:
        name: Of the file, without its ending.
        runtime: Name in RUNTIMES; of a file made elsewhere by its ending, where nothing is said.
        quantize: How; float32 by default.
        layout: Of the file's image inputs; NHWC where MediaPipe is a consumer and nothing is said, else NCHW. Of a file
            made elsewhere what it has to be; empty for what it is.
        io: Type of the values that the file takes and gives, where these are real numbers in the model.
        opset: ONNX operator set, 18 to 23; None for the exporter's.
        verify: When the file counts as wrong.
        package: What of the app's side the file does itself.
        consumers: What reads the file in the app, and is tried with it; names of CONSUMERS.
        sizes: Buckets: a file of fixed shapes for each of these lengths, of the inputs' sizes that vary in their order;
            None: one file.
        bucket: The one of them that the file is for. A recipe has a target for each, and none with `sizes`.
        file: A model file made elsewhere, in place of one that is exported; empty for one that is.
        onnx_weights: Integers that a static int8 ONNX file stores its weights as: uint8 is right on every processor;
            int8 takes ARM's kernels fewer instructions, and sums of it saturate on x86 processors without VNNI.
    """

    name: str
    runtime: Runtime = ""
    quantize: Quantize = Quantize()  # noqa: RUF009 - frozen, so one for all does no harm
    layout: Literal["", "NCHW", "NHWC"] = ""
    io: Literal["float32", "int8", "uint8"] = "float32"
    opset: int | None = None
    verify: Verify = Verify()
    package: Package = Package()  # noqa: RUF009 - frozen, so one for all does no harm
    consumers: tuple[Consumer, ...] = ()
    sizes: tuple[tuple[int, ...], ...] | None = None
    bucket: tuple[int, ...] = ()
    file: str = ""
    onnx_weights: Literal["uint8", "int8"] = "uint8"

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if self.file:
            self._check_file()
            return
        if not self.runtime:
            raise WrongTable(Fault("missing", "runtime"))
        if not self.layout:  # so that nobody else has to ask what is meant
            for_tasks = "mediapipe" in self.consumers and self.runtime == "tflite"
            object.__setattr__(self, "layout", "NHWC" if for_tasks else "NCHW")
        if self.sizes == ():
            raise ValueError(
                "sizes is empty: name a length for each size that varies, as in [[320, 320]], or leave it out"
            )
        runtime = RUNTIMES.get(self.runtime)
        if runtime is None:
            raise ValueError(f"runtime: unknown value {self.runtime!r}{suggest(self.runtime, RUNTIMES)}")
        # A file that takes pixels turns them itself.
        if self.layout not in runtime.layouts and not self.package.inside:
            others = _runtimes(lambda info: self.layout in info.layouts)
            raise ValueError(
                f"layout {self.layout} is for runtime {others}; {self.runtime} files keep the model's "
                f"{' or '.join(runtime.layouts)}"
            )
        if self.io != "float32" and not self.quantize.is_static:
            raise ValueError(
                f"io {self.io} needs a static int8 scheme: files of {self.quantize.scheme} take and give float32"
            )
        if self.io not in runtime.io:
            able = _runtimes(lambda info: self.io in info.io)
            raise ValueError(f"io {self.io} is for runtime {able}; {self.runtime} has {' or '.join(runtime.io)}")
        if self.consumers:
            self._check_consumers()
        if self.io != "float32" and self.package.packs:
            raise ValueError(
                f"io {self.io} cannot go with package: a file that takes pixels takes them as they are (uint8), and "
                "what is done to an output is done in float32; leave io out"
            )
        why = refusal(self.runtime, self.quantize)
        if why:
            raise ValueError(why)
        if self.opset is not None and "opset" not in runtime.target_keys:
            raise ValueError(f"opset is for runtime {_having('opset')}, found runtime {self.runtime!r}")
        if self.opset is not None and not 18 <= self.opset <= 23:
            raise ValueError(f"opset must be 18 to 23 (what the exporter honours), found {self.opset}")
        if self.has_int8_weights:
            self._check_onnx_weights(runtime)
        if self.verify.tflite_runtime == "require" and "tflite_runtime" not in runtime.target_keys:
            having = _having("tflite_runtime")
            raise ValueError(f"verify.tflite_runtime is for runtime {having}, found runtime {self.runtime!r}")

    @property
    def has_int8_weights(self) -> bool:
        """Whether the file is for ARM alone: x86 kernels of its weights may saturate."""
        return self.onnx_weights == "int8"

    def _check_onnx_weights(self, runtime: RuntimeInfo) -> None:
        """They are told apart in ONNX files, in layers of integers, and fit for apps on ARM alone."""
        if "onnx_weights" not in runtime.target_keys:
            raise ValueError(f"onnx_weights is for runtime {_having('onnx_weights')}, found runtime {self.runtime!r}")
        if not self.quantize.is_static:
            raise ValueError(
                f"onnx_weights int8 is for the static int8 schemes, found {self.quantize.scheme}: kernels of other "
                "schemes are not faster by it"
            )
        if "onnxruntime_web" in self.consumers:
            raise ValueError(
                "onnx_weights int8 is for apps on ARM alone, and pages of consumers onnxruntime_web are opened on any "
                "processor: leave one of the two out"
            )

    def _check_file(self) -> None:
        """Of a file made elsewhere the runtime is what reads its ending; what an exporter is told is not for it."""
        check_path(self.file, "file")
        name, ending = PurePath(self.file).name, PurePath(self.file).suffix.lower()
        known = {suffix: runtime for suffix, (runtime, _) in nearest_formats().items()}
        runtime = self.runtime or known.get(ending, "")
        if not runtime:
            raise ValueError(f"file: no runtime loads {name}; endings: {', '.join(sorted(known))}")
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime: unknown value {runtime!r}{suggest(runtime, RUNTIMES)}")
        endings = [each.suffix for each in RUNTIMES[runtime].formats]
        if ending not in endings:
            raise ValueError(f"file: runtime {runtime} loads {' and '.join(endings)} files, found {name}")
        object.__setattr__(self, "runtime", runtime)
        plain = Target("plain", runtime)
        for key in ("quantize", "io", "opset", "package", "consumers", "sizes", "onnx_weights"):
            if getattr(self, key) != getattr(plain, key):
                raise ValueError(f"{key} is for a file that is exported, and {self.file!r} is as it is: leave it out")
        if self.verify.tflite_runtime == "require" and "tflite_runtime" not in RUNTIMES[runtime].target_keys:
            having = _having("tflite_runtime")
            raise ValueError(f"verify.tflite_runtime is for runtime {having}, found runtime {runtime!r}")

    def named_files(self) -> dict[str, str]:
        return {"file": self.file}

    @property
    def suffix(self) -> str:
        """Of the model file that it ships."""
        return PurePath(self.file).suffix.lower() if self.file else RUNTIMES[self.runtime].suffix

    def _check_consumers(self) -> None:
        """Each reads files of one runtime; none of .tflite takes int8 at its borders, MediaPipe Tasks channels last."""
        if len(set(self.consumers)) != len(self.consumers):
            raise ValueError(f"consumers: named twice, found {', '.join(self.consumers)}")
        for consumer in self.consumers:
            runtime, _ = CONSUMERS[consumer]
            if self.runtime != runtime:
                raise ValueError(f"consumers {consumer} reads .{runtime} files, found runtime {self.runtime!r}")
        if "mediapipe" in self.consumers and self.layout != "NHWC":
            raise ValueError(f'consumers mediapipe takes images channels last: layout = "NHWC", found {self.layout!r}')
        if self.io == "int8":
            raise ValueError(
                f"consumers {self.consumers[0]} refuses int8 inputs and outputs: "
                'package.preprocess = "inside" takes uint8, or io = "float32"'
            )

    @property
    def has_metadata(self) -> bool:
        """Whether the file says what it takes and gives."""
        return self.package.metadata or "mediapipe" in self.consumers


def _having(key: str) -> str:
    """The runtimes that a key of [[target]] is for."""
    return _runtimes(lambda info: key in info.target_keys)


def _runtimes(wanted: Callable[[RuntimeInfo], bool]) -> str:
    return " or ".join(name for name, info in RUNTIMES.usable().items() if wanted(info))
