"""What can be plugged in: visible dicts of name → where it is, imported on use.

A Registry also holds the rows of installed packages (plugins.py). This module imports nothing but the standard
library: it is read before anything heavy is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pocketforge.errors import PluginFailed
from pocketforge.plugins import Registry
from pocketforge.version import install


@dataclass(frozen=True, slots=True)
class StageInfo:
    """A stage: one kind of step of a build.

    Attributes:
        module: Where its `run` is.
        version: Changes when the stage's results would; it is part of every key.
        libraries: Distributions whose versions are part of the key (a runtime adds its own, see RUNTIMES).
        preload: Modules worth importing once, before the processes of several stages are forked from it.
        resumable: Its inputs also hold `partial`, a folder that outlives a kill, to go on from, and `logs`, a folder
            for what it wants to tell that is no result.
        user_code: It runs the user's code, so what that opens is noted.
    """

    module: str
    version: int
    libraries: tuple[str, ...]
    preload: tuple[str, ...] = ()
    resumable: bool = False
    user_code: bool = False


_ENDING = re.compile(r"\.[a-z0-9_]+\Z")
_IDENTIFIER_BYTES = 4
_TRAIN = ("torch", "numpy", "pillow", "scikit-learn")
_PT2E = (
    "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
    "torchao.quantization.pt2e.quantize_pt2e",
)
_TRACE = (
    "torch",
    "torch.export",
    "torch._dynamo",
    "safetensors.torch",
    "torch.utils.flop_counter",
    "pocketforge.rewrites.torch_lookups",
    "pocketforge.rewrites.auto_functionalized",
    "pocketforge.rewrites.first_trace",
)

STAGES: dict[str, StageInfo] = {
    "data": StageInfo("pocketforge.stages.data", 8, ("numpy", "pillow", "scikit-learn"), user_code=True),
    "finetune": StageInfo(
        "pocketforge.stages.finetune", 4, (*_TRAIN, "accelerate"), _TRACE, resumable=True, user_code=True
    ),
    "prune": StageInfo("pocketforge.stages.prune", 6, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "sensitivity": StageInfo("pocketforge.stages.sensitivity", 5, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "gains": StageInfo("pocketforge.stages.gains", 5, ("torch", "numpy"), _TRACE, user_code=True),
    "reference": StageInfo("pocketforge.stages.reference", 9, ("torch", "numpy"), _TRACE, user_code=True),
    "answers": StageInfo("pocketforge.stages.answers", 2, ("numpy",), user_code=True),
    "annotate": StageInfo(
        "pocketforge.stages.annotate", 7, ("torch", "numpy", "torchao", "executorch"), _TRACE + _PT2E
    ),
    "layers": StageInfo(
        "pocketforge.stages.layers", 9, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True
    ),
    "quantize": StageInfo(
        "pocketforge.stages.quantize",
        14,
        (*_TRAIN, "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "qat": StageInfo(
        "pocketforge.stages.qat",
        11,
        (*_TRAIN, "accelerate", "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "package": StageInfo("pocketforge.stages.package", 2, ("torch", "numpy"), _TRACE),
    "export": StageInfo("pocketforge.stages.export", 20, ("torch",), _TRACE),
    "adopt": StageInfo("pocketforge.stages.adopt", 2, ("numpy",)),
    "verify": StageInfo("pocketforge.stages.verify", 12, ("numpy",), user_code=True),
    "verify_file": StageInfo("pocketforge.stages.verify_file", 3, ("numpy",), user_code=True),
    "why": StageInfo("pocketforge.stages.why", 9, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True),
    "bench": StageInfo("pocketforge.stages.bench", 3, ("numpy",)),
    "verify_device": StageInfo("pocketforge.stages.verify_device", 7, ("numpy",), user_code=True),
    "bench_phone": StageInfo("pocketforge.stages.bench_phone", 1, ("numpy",)),
    "count": StageInfo("pocketforge.stages.count", 1, ("numpy", "capstone", "pyelftools")),
    "estimate": StageInfo("pocketforge.stages.estimate", 2, ("numpy", "capstone")),
}


# Measurements of the PyTorch model are `via` this, and no device.
PYTORCH = "pytorch"
_NO_DEVICES = {PYTORCH: "it is what measurements of the PyTorch model are via"}
# The key of `verify` about the older tflite-runtime.
LITERTS_OLDER = "tflite_runtime"
# About what ONNX Runtime's own kernels do with the integers of a file.
ONNX_WEIGHTS = "onnx_weights"


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A kind of model file that a runtime loads.

    Attributes:
        suffix: Its ending, with the dot. Without the dot it is the format's name in what is said of a file.
        parser: Module that tells what is in such a file (runtimes/describe.py has its contract); empty: nothing does,
            and `inspect` and verify's check of stored weights refuse the file by name.
        package: Distribution that the parser reads with, to be named where it is missing.
        identifier: The first bytes of the four at place 4 by which such a file is known, whatever its ending is; digits
            may follow them. Empty where the format has none.
        example: The whole identifier, for a message that says what was wanted.
        start: Pattern of bytes that such files start with, where they have no identifier. Empty where they start with
            nothing of their own: then the ending says it.
        traffic: Module that tells what each operator moves (runtimes/traffic.py has its contract); empty: nothing does,
            and estimates do without.
        operators: Module that tells which kernels a build of the runtime needs for such a file (runtimes/operators.py
            has its contract); empty: nothing does, and `size` says so.
    """

    suffix: str
    parser: str = ""
    package: str = ""
    identifier: bytes = b""
    example: str = ""
    start: bytes = b""
    traffic: str = ""
    operators: str = ""

    def __post_init__(self) -> None:
        if not _ENDING.match(self.suffix):
            raise ValueError(f"suffix of a file format must be a dot and letters or digits, found {self.suffix!r}")
        if not isinstance(self.identifier, bytes) or len(self.identifier) > _IDENTIFIER_BYTES:
            raise ValueError(f"{self.suffix}: identifier must be at most four bytes, found {self.identifier!r}")
        try:
            starts_all = bool(self.start) and re.match(self.start, b"", re.DOTALL) is not None
        except (re.error, TypeError) as error:
            raise ValueError(
                f"{self.suffix}: start must be a pattern of bytes, found {self.start!r}: {error}"
            ) from None
        if starts_all:
            raise ValueError(f"{self.suffix}: start fits every file, found {self.start!r}")

    @property
    def name(self) -> str:
        """As in `pte`."""
        return self.suffix.removeprefix(".")


@dataclass(frozen=True, slots=True)
class NativeRunner:
    """The program of android_bench/runner that runs a runtime's files on ARM cores, emulated and of phones.

    Attributes:
        package: Distribution whose arm64 library it loads; what it says it ran on, before the version.
        tolerance: How far the counts of two inferences may be apart, as a fraction.
        io: Where the file says of its inputs and outputs what their integers stand for: `tensor` (the format has a
            place for it), or in the metadata that our exporter writes, by the tensor's `name` or by its `place`.
    """

    package: str
    tolerance: float
    io: Literal["tensor", "name", "place"]


@dataclass(frozen=True, slots=True)
class PlainSession:
    """A session that runs a file without what makes it fast: as the format's specification says it.

    Attributes:
        session: As of RuntimeInfo.
        about: In words, behind "FILE in …".
    """

    session: str
    about: str


@dataclass(frozen=True, slots=True)
class Why:
    """How `why` looks into a runtime's files. One of tap and lowered is given.

    Attributes:
        graph: Which of the quantize step's graphs the exporter starts from: `folded` (weights stored as integers) or
            `unfolded` (float weights behind their quantize ops).
        plain: How a file is run without what makes it fast; None where lowered is given.
        tap: Module with `tap_file(path, copy) -> list[FileTap]` (runtimes/taps.py): writes a file that also gives its
            layers' outputs. Empty where a file cannot be made to.
        lowered: Module with `lower` and `with_outputs` (runtimes/taps.py): for files that hold no layers, the graph
            lowered again with its layers' outputs as further ones. Empty where `tap` is given.
    """

    graph: Literal["folded", "unfolded"]
    plain: PlainSession | None = None
    tap: str = ""
    lowered: str = ""

    def __post_init__(self) -> None:
        if bool(self.tap) == bool(self.lowered) or bool(self.tap) != bool(self.plain):
            raise ValueError("why: give a tap and a plain session, or else a lowered form")


@dataclass(frozen=True, slots=True)
class SchemeSupport:
    """What a runtime makes of a quantization scheme.

    Attributes:
        how: `native`: the runtime's own kernels for it. `emulated`: right numbers, computed in float. `refused`: no
            file is written.
        why: In words: what is computed how, or why it is refused.
        nearest: Of a refused one, what to ask for instead.
    """

    how: Literal["native", "emulated", "refused"]
    why: str
    nearest: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """All that anybody looks up by a runtime's name. What it lacks is None or empty here, and refused by its name.

    Modules are dotted names, imported on use, of Pocketforge or of any installed package.

    Attributes:
        module: Its exporter (`export(request, out)`, runtimes/base.py): the only importer of its toolchain.
        session: What opens one file with the runtime alone, in a new process: a file of runtimes/sessions without its
            ending, or, with a dot in it, a module of a package. It is loaded by path and may import the standard
            library, NumPy and the runtime only.
        formats: Kinds of file that it loads; the first is the one an app ships.
        export_libraries: Distributions that export to it; their versions are part of keys.
        run_libraries: Distributions that run its files; their versions are part of keys.
        title: What it is called, in words.
        extra: The extra of our package that brings its toolchain; empty: the libraries' own names are to be installed.
        preload: Modules worth importing once, before the processes of several exports are forked from it.
        beside: Roles of the files that an export writes beside the model file; each ships as NAME.ROLE.
        layouts: Layouts of images that its files can take.
        io: What the inputs and outputs of its static int8 files can be; of a plug-in's runtime what it makes of it.
        refused_inputs: Type of an input → why its files cannot take it, and what to do.
        target_keys: Keys of [[target]] and of its `verify` table that are for this runtime alone.
        hints: Commented lines of a new recipe's target.
        int8_operations: Kinds of operations (ATen's words) that its files compute in int8 where all that an operation
            reads and gives has levels; others are computed in float between them. None: nobody says. A kind may be of
            one form alone, `adaptive_avg_pool2d to 1` (outcomes/annotate.py).
        keeps_levels: Those that are int8 already where all that they read has levels: what they give has the same. A
            runtime with any also computes in levels that are asked for behind what passes values on.
        dynamic_layers: Kinds of layers (ATen's words) that its dynamic int8 files compute in integers; others of a
            quantized graph stay float there.
        mixes_ranges: Whether one file of it may hold layers whose activations have fixed ranges and layers that find
            theirs at run time.
        why: How its files are looked into; None: `why` compares outputs only, not layers.
        native: What runs its files on ARM cores; None: neither the emulator nor phones can.
        schemes: Of a plug-in's runtime, scheme → what it makes of it; one that is not there is refused. Those of
            Pocketforge's own are in each scheme's row (recipe/schemes.py).
        varying: Schemes whose files take inputs of sizes that vary. In those of others each has one.
        why_fixed: Why none of its files does, in words; empty where some do.
    """

    module: str
    session: str
    formats: tuple[FileFormat, ...]
    export_libraries: tuple[str, ...]
    run_libraries: tuple[str, ...]
    title: str
    extra: str = ""
    preload: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    layouts: tuple[Literal["NCHW", "NHWC"], ...] = ("NCHW",)
    io: tuple[str, ...] = ("float32", "int8")
    refused_inputs: Mapping[str, str] = field(default_factory=dict)
    target_keys: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    int8_operations: frozenset[str] | None = None
    keeps_levels: frozenset[str] = frozenset()
    dynamic_layers: frozenset[str] = frozenset({"linear", "addmm"})
    mixes_ranges: bool = False
    why: Why | None = None
    native: NativeRunner | None = None
    schemes: Mapping[str, SchemeSupport] = field(default_factory=dict)
    varying: tuple[str, ...] = ()
    why_fixed: str = ""

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError(f"{self.module}: formats is empty; the first is the file that an app ships")
        if not all(isinstance(each, FileFormat) for each in self.formats):
            raise ValueError(f"{self.module}: formats must be FileFormats, found {self.formats!r}")

    @property
    def suffix(self) -> str:
        """Of the file that an app ships."""
        return self.formats[0].suffix

    @property
    def install(self) -> str:
        """What to type where its toolchain is missing."""
        return install(self.extra) if self.extra else f"pip install {' '.join(self._packages)}"

    @property
    def _packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.export_libraries, *self.run_libraries)))

    def with_library(self, distribution: str) -> RuntimeInfo:
        """The runtime as a plug-in's, whose version is part of what exports to it and of what runs it."""
        return dataclasses.replace(
            self,
            export_libraries=(*self.export_libraries, distribution),
            run_libraries=(*self.run_libraries, distribution),
        )


# Behind a layer or an addition they are part of it, or of the levels.
_CLAMPS = frozenset({"relu", "relu6", "hardtanh"})

_RUNTIMES: dict[str, RuntimeInfo] = {
    "executorch": RuntimeInfo(
        module="pocketforge.runtimes.executorch",
        session="executorch",
        formats=(
            FileFormat(
                ".pte",
                parser="pocketforge.runtimes.describe_executorch",
                package="executorch",
                identifier=b"ET",
                example="ET12",
                traffic="pocketforge.runtimes.traffic_executorch",
                operators="pocketforge.runtimes.operators_executorch",
            ),
        ),
        export_libraries=("executorch", "torchao"),
        run_libraries=("executorch", "torch"),
        title="ExecuTorch + XNNPACK",
        extra="executorch",
        preload=(
            "pocketforge.rewrites.auto_functionalized",
            "executorch.exir",
            "executorch.backends.xnnpack.partition.xnnpack_partitioner",
            "executorch.devtools.backend_debug",
            "pocketforge.runtimes.executorch_patterns",
        ),
        int8_operations=_CLAMPS
        | {"add", "sub", "mul", "cat", "max_pool2d", "adaptive_avg_pool2d to 1", "mean", "clamp"},
        mixes_ranges=True,
        why=Why("folded", lowered="pocketforge.runtimes.tap_executorch"),
        native=NativeRunner("executorch", tolerance=1e-4, io="place"),
        varying=("fp32", "static_int8"),
    ),
    "tflite": RuntimeInfo(
        module="pocketforge.runtimes.tflite",
        session="tflite",
        formats=(
            FileFormat(
                ".tflite",
                parser="pocketforge.runtimes.describe_tflite",
                package="ai-edge-litert",
                identifier=b"TFL3",
                example="TFL3",
                traffic="pocketforge.runtimes.traffic_tflite",
                operators="pocketforge.runtimes.operators_tflite",
            ),
        ),
        export_libraries=("litert-torch", "ai-edge-litert", "torchao"),
        run_libraries=("ai-edge-litert",),
        title="LiteRT",
        extra="tflite",
        # What its layout pass computes with, and imports in the middle of each conversion.
        preload=("litert_torch", "scipy.cluster.hierarchy", "scipy.sparse.csgraph"),
        layouts=("NCHW", "NHWC"),
        io=("float32", "int8", "uint8"),
        refused_inputs={
            "int8": "its converter takes them for levels of a scale that they do not have, and the file does not load; "
            'give the input as int16 or uint8, or as float32 to a target of io = "int8"',
        },
        target_keys=(LITERTS_OLDER,),
        hints=(
            'layout = "NHWC" # as most Android code feeds images',
            'io = "int8" # int8 inputs and outputs instead of float32',
        ),
        int8_operations=_CLAMPS
        | {"add", "sub", "mul", "div", "cat", "maximum", "minimum", "abs", "exp", "sqrt", "matmul", "softmax", "pad"}
        | {"leaky_relu", "sigmoid", "tanh", "hardswish", "gelu", "mean", "max_pool2d", "avg_pool2d"}
        | {"adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d"},
        # Its converter hands their input's levels on.
        keeps_levels=frozenset({"avg_pool2d"}),
        why=Why(
            "unfolded",
            plain=PlainSession("tflite_reference", "LiteRT's reference kernels, no delegate"),
            tap="pocketforge.runtimes.tap_tflite",
        ),
        native=NativeRunner("ai-edge-litert", tolerance=1e-4, io="tensor"),
        why_fixed="its converter fixes sizes in int8 graphs, and files that resize maps do not load at other sizes",
    ),
    "onnx": RuntimeInfo(
        module="pocketforge.runtimes.onnx",
        session="onnx",
        formats=(
            FileFormat(
                ".onnx",
                parser="pocketforge.runtimes.describe_onnx",
                package="onnx",
                # A ModelProto is written field by field in order: ir_version first, so tag 0x08 and a small version.
                start=rb"\x08[\x01-\x3f].",
                traffic="pocketforge.runtimes.traffic_onnx",
                operators="pocketforge.runtimes.operators_onnx",
            ),
            FileFormat(
                ".ort",
                parser="pocketforge.runtimes.describe_onnx",
                package="onnxruntime",
                identifier=b"ORTM",
                example="ORTM",
                operators="pocketforge.runtimes.operators_onnx",
            ),
        ),
        export_libraries=("onnx", "onnxscript", "onnxruntime"),
        run_libraries=("onnxruntime",),
        title="ONNX Runtime",
        extra="onnx",
        # The exporter before ONNX Runtime's own tools: it says that nothing is reported.
        preload=(
            "onnx",
            "onnxscript",
            "torch.onnx",
            "pocketforge.runtimes.onnx_functions",
            "pocketforge.runtimes.onnx",
            "onnxruntime.tools.convert_onnx_models_to_ort",
            "onnxruntime.tools.mobile_helpers.usability_checker",
        ),
        beside=("ort",),
        io=("float32", "int8", "uint8"),
        target_keys=("opset", ONNX_WEIGHTS),
        int8_operations=_CLAMPS
        | {"add", "mul", "cat", "matmul", "softmax", "leaky_relu", "sigmoid", "max_pool2d", "avg_pool2d"}
        | {"upsample_nearest2d", "adaptive_avg_pool2d in equal windows"},
        dynamic_layers=frozenset({"linear", "addmm", "lstm"}),
        why=Why(
            "folded",
            plain=PlainSession("onnx_reference", "ONNX Runtime, no graph optimization"),
            tap="pocketforge.runtimes.tap_onnx",
        ),
        # Its allocator does not settle wholly.
        native=NativeRunner("onnxruntime", tolerance=1e-3, io="name"),
        varying=("fp32", "static_int8"),
    ),
}


def _fault_of_runtime(info: RuntimeInfo) -> str:
    """Why a package cannot bring this runtime."""
    ours = {each.suffix: name for name, row in _RUNTIMES.items() for each in row.formats}
    for each in info.formats:
        if each.suffix in ours:
            return f"{each.suffix} files are of runtime {ours[each.suffix]}"
    ours_alone = {LITERTS_OLDER: "is about LiteRT's files alone", ONNX_WEIGHTS: "is about ONNX Runtime's files alone"}
    known = {key for row in _RUNTIMES.values() for key in row.target_keys} - set(ours_alone)
    if wrong := sorted(set(info.target_keys) - known):
        why = ours_alone.get(wrong[0], "is no key that a runtime may take")
        return f"target_keys: {wrong[0]!r} {why}; known: {', '.join(sorted(known))}"
    if "." not in info.session:
        return f"session must be a module of the package, with a dot in its name, found {info.session!r}"
    return ""


RUNTIMES = Registry("runtimes", RuntimeInfo, _RUNTIMES, RuntimeInfo.with_library, _fault_of_runtime)


def file_formats() -> dict[str, tuple[str, FileFormat]]:
    """Ending → runtime and format, of ours and of packages that are not broken. Raises PluginFailed for an ending that
    a plug-in gives to a second runtime."""
    formats, twice = _formats_of(RUNTIMES.usable())
    for suffix, runtime in twice.items():
        raise PluginFailed(
            f"{suffix} files are of runtime {formats[suffix][0]} and of runtime {runtime}",
            f"pip uninstall the package that brings runtime {runtime}, or ask its author for another ending",
        )
    return formats


def nearest_formats() -> dict[str, tuple[str, FileFormat]]:
    """Those of our runtimes, and of those that this process has used: no package is loaded for a file of theirs. An
    ending that two of them have is left out: it stops no file of another one."""
    formats, twice = _formats_of(RUNTIMES.loaded())
    return {suffix: each for suffix, each in formats.items() if suffix not in twice}


def _formats_of(
    runtimes: Mapping[str, RuntimeInfo],
) -> tuple[dict[str, tuple[str, FileFormat]], dict[str, str]]:
    """Ending → runtime and format, and each ending that a second runtime has too, with which one."""
    formats: dict[str, tuple[str, FileFormat]] = {}
    twice: dict[str, str] = {}
    for runtime, info in runtimes.items():
        for each in info.formats:
            if each.suffix in formats:
                twice[each.suffix] = runtime
            else:
                formats[each.suffix] = runtime, each
    return formats, twice


def runtime_of(session: str) -> str:
    """The runtime whose files a session opens. Raises KeyError for a session of none."""
    for rows in (RUNTIMES.loaded, RUNTIMES.usable):
        for runtime, info in rows().items():
            if session == info.session or (info.why and info.why.plain and session == info.why.plain.session):
                return runtime
    raise KeyError(session)


def native_of(session: str) -> NativeRunner | None:
    """What runs the files that a session opens on ARM cores; None where nothing does."""
    for rows in (RUNTIMES.loaded, RUNTIMES.usable):
        for info in rows().values():
            if session == info.session and info.native is not None:
                return info.native
    return None


def native_sessions() -> list[str]:
    """Sessions that have such a program, for words."""
    return sorted(info.session for info in RUNTIMES.usable().values() if info.native is not None)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One kind of [[device]]: where each of its parts is, as `module:name`, imported by who needs it.

    Attributes:
        entry: The dataclass of its table in a recipe (a `Device` of recipe/device.py).
        runner: What runs a file there; a module that has `run` (`DeviceRunner` of devices/base.py).
        steps: Function that lays out what a target's file goes through there (`AddSteps` of plan/kinds.py).
        results: Function that reads what these steps wrote (`ReadDevice` of results/devices.py).
        keeps_time: Whether what it measures is a real device's time. What an emulated one takes says nothing of any.
        facts: Function that looks up what its steps depend on outside the recipe (`LookUp` of facts/kinds.py); empty
            for nothing.
        about: Under what name the report's facts of a target hold what is known of such devices; empty for nothing.
        tables: Function that shows this in the terminal (`ShowTables` of report/devices.py); empty for nothing.
        libraries: Distributions whose versions are part of the keys of the steps there; a package that brings the row
            is one by itself.
        stages: Name → the stages that only such devices have.
        bench: What `pocketforge bench` does with it (`BenchOn` of commands/bench_kinds.py); empty where it cannot.
        bench_table: Function that shows these rows in the terminal (`ShowRows` of report/bench.py).
        words_with_names: Whether --device takes `KIND:WHICH` beside the kind's name.
        native: Whether files run there by the programs that RuntimeInfo.native names: a runtime without one cannot.
    """

    entry: str
    runner: str
    steps: str
    results: str
    keeps_time: bool
    facts: str = ""
    about: str = ""
    tables: str = ""
    libraries: tuple[str, ...] = ()
    stages: Mapping[str, StageInfo] = field(default_factory=dict)
    bench: str = ""
    bench_table: str = ""
    words_with_names: bool = False
    native: bool = False

    def with_library(self, distribution: str) -> DeviceInfo:
        """The kind as a package brings it: results there change with the package's version."""
        stages = {
            name: dataclasses.replace(stage, libraries=(*stage.libraries, distribution))
            for name, stage in self.stages.items()
        }
        return dataclasses.replace(self, libraries=(*self.libraries, distribution), stages=stages)


_DEVICES: dict[str, DeviceInfo] = {
    "host": DeviceInfo(
        entry="pocketforge.recipe.device:HostDevice",
        runner="pocketforge.devices.host",
        steps="pocketforge.plan.devices:add_host",
        results="pocketforge.results.host:read",
        keeps_time=True,
        bench="pocketforge.commands.bench_host:BENCH",
        bench_table="pocketforge.report.bench:show_host",
    ),
    "emulator": DeviceInfo(
        entry="pocketforge.recipe.device:EmulatedDevice",
        runner="pocketforge.devices.emulator.device",
        steps="pocketforge.plan.devices:add_emulator",
        results="pocketforge.results.emulated:read",
        keeps_time=False,
        facts="pocketforge.facts.emulated:look_up",
        about="emulated",
        tables="pocketforge.report.emulated:emulated_tables",
        bench="pocketforge.commands.bench_emulated:BENCH",
        bench_table="pocketforge.report.emulated:show_emulated",
        native=True,
    ),
    "adb": DeviceInfo(
        entry="pocketforge.recipe.device:AdbDevice",
        runner="pocketforge.devices.adb",
        steps="pocketforge.plan.devices:add_phone",
        results="pocketforge.results.phones:read",
        keeps_time=True,
        facts="pocketforge.facts.phones:look_up",
        about="phones",
        tables="pocketforge.report.phones:phone_tables",
        bench="pocketforge.commands.bench_phones:BENCH",
        bench_table="pocketforge.report.phones:show_phones",
        words_with_names=True,
        native=True,
    ),
}


def _fault_of_device(info: DeviceInfo) -> str:
    """Why a package cannot bring this kind of device."""
    if taken := sorted(set(info.stages) & set(STAGES)):
        return f"Pocketforge has a stage {taken[0]!r} itself"
    if info.about and info.about in {ours.about for ours in _DEVICES.values()}:
        return f"about = {info.about!r} is where Pocketforge's own devices are told of"
    return ""


DEVICES = Registry("devices", DeviceInfo, _DEVICES, DeviceInfo.with_library, _fault_of_device, _NO_DEVICES)


def stage_info(name: str) -> StageInfo:
    """A stage of ours, or one that a kind of device brings. Raises KeyError for a name that none has."""
    if name in STAGES:
        return STAGES[name]
    for rows in (DEVICES.loaded, DEVICES.usable):
        found = {via: info.stages[name] for via, info in rows().items() if name in info.stages}
        if len(set(found.values())) > 1:
            raise PluginFailed(
                f"stage {name!r} is of the kinds of device {' and '.join(found)}: two stages of one name",
                "ask the author of one of the packages that bring them for another name",
            )
        if found:
            return next(iter(found.values()))
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A kind of data, written `NAME:PLACE` in a recipe's data.source (`function` is written `module.py:function`).

    Attributes:
        module: What finds its files and reads them: a data.base.SourceModule.
        place: What stands after the colon, in capitals: DIR, FILE and PATH (a file or a folder) are paths of the
            recipe, which must be there, and of a folder the listing decides which files are read; another word is the
            module's own. Empty: nothing does.
        largest: The largest raw value of its images, which becomes 1.0; 0 where samples are no images.
        largest_deep: The same for images of 16 bits, which the source may have too; 0 where it has none.
        split_folders: Whether the recipe may say which of its parts are splits.
        preprocess: TOML that `pocketforge init` writes for it in place of a commented-out [data.preprocess].
        libraries: Distributions whose versions are part of the key of what reads it, besides those of the stages.
        about: What it reads, in words.
        splits: Where its official split stands, in words; empty where it has none.
        targets: Names of the targets that samples may have.
        columns: Whether the recipe may say which of its columns are what.
        extra: The extra of our package that brings its library; empty where none is needed.
        init: Lines of [data] that `pocketforge init` writes for it, commented out.
        outputs: What `init` writes of the model's outputs in place of a task, TOML; empty for a classifier.
        drop: The metric of the first budget that `init` writes.
    """

    module: str
    place: str = ""
    largest: float = 0.0
    largest_deep: float = 0.0
    split_folders: bool = False
    preprocess: str = ""
    libraries: tuple[str, ...] = ()
    about: str = ""
    splits: str = ""
    targets: tuple[str, ...] = ()
    columns: bool = False
    extra: str = ""
    init: tuple[str, ...] = ()
    outputs: str = ""
    drop: str = "accuracy_drop"

    def with_library(self, distribution: str) -> SourceInfo:
        """The source as a plug-in's."""
        return dataclasses.replace(self, libraries=(*self.libraries, distribution))


_DIGITS_PREPROCESS = """\
[data.preprocess]
resize = [32, 32] # height, width; bilinear
scale = 16.0 # the raw value that becomes 1.0
mean = [0.5]
std = [0.5]"""
_TABLE_TARGETS = (
    "label", "labels", "mask", "boxes", "classes", "crowd", "keypoints", "areas", "tags", "text", "image", "waveform",
    "value",
)  # fmt: skip
_TABLE_INIT = (
    'columns = { input = ["path"], target = { label = "label" }, split = "split", slices = ["device"] } # of numbers: '
    'features = ["acc_*"] in place of input, and target = { value = "weight" }',
)
_DETECTOR = """\
[[output]] # the model's only one; of several each has its own, with a name: pocketforge docs outputs
role = "boxes"
post = { type = "nms", head = "columns", format = "cxcywh" } # [1, 4 + classes, n]; other forms are there too"""
_SEGMENTER = '''\
[[output]] # the model's only one; of several each has its own, with a name: pocketforge docs outputs
role = "segmentation"'''
# What `init --task` may say of sources that have several targets: task → the target that it wants, what is written of
# the model's outputs, and the metric of the first budget.
OUTPUT_TASKS: dict[str, tuple[str, str, str]] = {
    "detection": ("boxes", _DETECTOR, "map_drop"),
    "segmentation": ("mask", _SEGMENTER, "miou_drop"),
}
_SPLIT_INIT = 'split_folders = { train = ["train"], eval = ["val"] } # where names do not say it'

_SOURCES: dict[str, SourceInfo] = {
    "digits": SourceInfo(
        "pocketforge.data.digits",
        largest=16.0,
        preprocess=_DIGITS_PREPROCESS,
        about="the 1797 handwritten digits that come with scikit-learn, 8×8",
        targets=("label",),
    ),
    "cifar10": SourceInfo(
        "pocketforge.data.cifar10",
        "DIR",
        largest=255.0,
        about="CIFAR-10's official python or binary batches",
        splits="`test_batch`",
        targets=("label",),
    ),
    "imagefolder": SourceInfo(
        "pocketforge.data.imagefolder",
        "DIR",
        largest=255.0,
        largest_deep=65_535.0,
        split_folders=True,
        about="a folder of images a class",
        splits="folders above the classes: `train/`, `val/`, `test/`",
        targets=("label",),
    ),
    "audiofolder": SourceInfo(
        "pocketforge.data.audiofolder",
        "DIR",
        split_folders=True,
        libraries=("soundfile",),
        about="a folder of wav, flac or ogg files a class",
        splits="folders above the classes, or Speech Commands' `validation_list.txt` and `testing_list.txt`",
        targets=("label",),
        extra="audio",
        init=(_SPLIT_INIT,),
    ),
    "coco": SourceInfo(
        "pocketforge.data.annotated.coco",
        "PATH",
        largest=255.0,
        largest_deep=65_535.0,
        split_folders=True,
        about="COCO JSON and its images: boxes, crowds, polygons and RLE, keypoints",
        splits="annotation files: `instances_train2017.json`, `instances_val2017.json`, `train/_annotations.coco.json`",
        targets=("boxes", "classes", "crowd", "areas", "keypoints", "mask"),
        libraries=("faster-coco-eval", "ijson"),
        extra="detection",
        outputs=_DETECTOR,
        drop="map_drop",
        init=(
            'split_folders = { train = ["annotations/instances_train2017.json"], '
            'eval = ["annotations/instances_val2017.json"] }',
        ),
    ),
    "yolo": SourceInfo(
        "pocketforge.data.annotated.yolo",
        "PATH",
        largest=255.0,
        largest_deep=65_535.0,
        split_folders=True,
        about="YOLO: data.yaml, or images/ and labels/ with a text file an image: boxes, polygons, keypoints",
        splits="`train`, `val`, `test` of data.yaml, or folders of images/",
        targets=("boxes", "classes", "crowd", "areas", "keypoints"),
        libraries=("PyYAML",),
        extra="detection",
        outputs=_DETECTOR,
        drop="map_drop",
        init=('split_folders = { train = ["images/train"], eval = ["images/val"] }',),
    ),
    "voc": SourceInfo(
        "pocketforge.data.annotated.voc",
        "DIR",
        largest=255.0,
        largest_deep=65_535.0,
        split_folders=True,
        about="Pascal VOC: Annotations/, JPEGImages/, ImageSets/",
        splits="lists of ImageSets/Main: `train.txt`, `val.txt`, `test.txt`",
        targets=("boxes", "classes", "crowd", "areas", "mask"),
        outputs=_DETECTOR,
        drop="map_drop",
        init=('split_folders = { train = ["Segmentation/train"], eval = ["Segmentation/val"] } # with masks',),
    ),
    "masks": SourceInfo(
        "pocketforge.data.annotated.masks",
        "DIR",
        largest=255.0,
        largest_deep=65_535.0,
        split_folders=True,
        about="a folder of images and one of masks of the same names",
        splits="folders above or below them: `train/images/`, `masks/val/`",
        targets=("mask",),
        outputs=_SEGMENTER,
        drop="miou_drop",
        init=("mask_values = [0, 255] # the value of each class, where values are not class numbers", _SPLIT_INIT),
    ),
    "csv": SourceInfo(
        "pocketforge.data.tables.csv_table",
        "PATH",
        split_folders=True,
        libraries=("soundfile",),
        about="a table of paths, texts or numbers in CSV (commas, semicolons or tabs)",
        splits="a column, or files: `train.csv`, `val.csv`",
        targets=_TABLE_TARGETS,
        columns=True,
        init=_TABLE_INIT,
    ),
    "parquet": SourceInfo(
        "pocketforge.data.tables.parquet_table",
        "PATH",
        split_folders=True,
        libraries=("pyarrow", "soundfile"),
        about="the same in Parquet",
        splits="a column, or files: `train.parquet`, `val-00000.parquet`",
        targets=_TABLE_TARGETS,
        columns=True,
        extra="tables",
        init=_TABLE_INIT,
    ),
    "jsonl": SourceInfo(
        "pocketforge.data.tables.jsonl_table",
        "PATH",
        split_folders=True,
        libraries=("soundfile",),
        about="a JSON object a line: texts, paths, numbers, lists; `meta.device` names what is nested",
        splits="a column, or files: `train.jsonl`, `val.jsonl`",
        targets=_TABLE_TARGETS,
        columns=True,
        init=('columns = { input = ["text"], target = { label = "label" }, split = "split", slices = ["device"] }',),
    ),
    "webdataset": SourceInfo(
        "pocketforge.data.tables.webdataset",
        "PATH",
        split_folders=True,
        libraries=("soundfile",),
        about="WebDataset: tars whose members `KEY.jpg`, `KEY.cls`, `KEY.json` … are a sample",
        splits="the tars' names or folders: `train-000000.tar`, `val/0.tar`",
        targets=_TABLE_TARGETS,
        columns=True,
        init=('columns = { input = ["jpg"], target = { label = "cls" }, slices = ["json.device"] }',),
    ),
    "huggingface": SourceInfo(
        "pocketforge.data.tables.huggingface",
        "DIR",
        split_folders=True,
        libraries=("datasets", "pyarrow", "soundfile"),
        about="a Hugging Face data set on disk, of `save_to_disk`",
        splits="the splits of a DatasetDict",
        targets=_TABLE_TARGETS,
        columns=True,
        extra="tables",
        init=('columns = { input = ["image"], target = { label = "label" } }',),
    ),
    "npz": SourceInfo(
        "pocketforge.data.npz",
        "FILE",
        about="arrays `x` (or `x_0`, `x_1` …) and `y`",
        splits="`x_eval`, `y_eval`",
        targets=("label", "value"),
    ),
    "function": SourceInfo(
        "pocketforge.data.function",
        "module.py:function",
        about="code of yours: arrays, a sequence of (x, y), a torch.utils.data.Dataset",
        splits="of a dict of two: `train`, `eval`",
        targets=_TABLE_TARGETS,
    ),
}
SOURCES = Registry("sources", SourceInfo, _SOURCES, SourceInfo.with_library)

# A type of [[compress]] that prunes → its method.
METHODS = {
    "prune_unstructured": "pocketforge.pruning.unstructured",
    "prune_channels": "pocketforge.pruning.channels",
    "drop_layers": "pocketforge.pruning.drop_layers",
}
