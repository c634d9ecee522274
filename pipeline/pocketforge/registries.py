"""What can be plugged in: visible dicts of name → where it is, imported on use.

A Registry also holds the rows of installed packages (plugins.py). This module imports nothing but the standard
library: it is read before anything heavy is.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pocketforge.plugins import Registry


@dataclass(frozen=True, slots=True)
class StageInfo:
    """`version` changes when a stage's results would: it is part of every key.

    libraries: distributions whose versions are part of the key (a runtime adds its own, see RUNTIMES).
    preload: modules worth importing once, before the processes of several stages are forked from it.
    resumable: its inputs also hold `partial`, a folder that outlives a kill, to go on from, and `logs`, a folder for
    what it wants to tell that is no result. user_code: it runs the user's code, so what that opens is noted.
    """

    module: str
    version: int
    libraries: tuple[str, ...]
    preload: tuple[str, ...] = ()
    resumable: bool = False
    user_code: bool = False


_TRAIN = ("torch", "numpy", "pillow", "scikit-learn")
_PT2E = (
    "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
    "torchao.quantization.pt2e.quantize_pt2e",
)
_TRACE = ("torch", "torch.export", "torch._dynamo", "safetensors.torch", "torch.utils.flop_counter")

STAGES: dict[str, StageInfo] = {
    "data": StageInfo("pocketforge.stages.data", 2, ("numpy", "pillow", "scikit-learn"), user_code=True),
    "finetune": StageInfo(
        "pocketforge.stages.finetune", 4, (*_TRAIN, "accelerate"), _TRACE, resumable=True, user_code=True
    ),
    "prune": StageInfo("pocketforge.stages.prune", 4, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "sensitivity": StageInfo("pocketforge.stages.sensitivity", 3, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "gains": StageInfo("pocketforge.stages.gains", 3, ("torch", "numpy"), _TRACE, user_code=True),
    "reference": StageInfo("pocketforge.stages.reference", 5, ("torch", "numpy"), _TRACE, user_code=True),
    "layers": StageInfo(
        "pocketforge.stages.layers", 4, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True
    ),
    "quantize": StageInfo(
        "pocketforge.stages.quantize",
        7,
        (*_TRAIN, "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "qat": StageInfo(
        "pocketforge.stages.qat",
        4,
        (*_TRAIN, "accelerate", "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "export": StageInfo("pocketforge.stages.export", 7, ("torch",), _TRACE),
    "verify": StageInfo("pocketforge.stages.verify", 5, ("numpy",)),
    "why": StageInfo("pocketforge.stages.why", 2, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True),
    "bench": StageInfo("pocketforge.stages.bench", 3, ("numpy",)),
    "verify_device": StageInfo("pocketforge.stages.verify_device", 3, ("numpy",)),
    "bench_phone": StageInfo("pocketforge.stages.bench_phone", 1, ("numpy",)),
    "count": StageInfo("pocketforge.stages.count", 1, ("numpy", "capstone", "pyelftools")),
    "estimate": StageInfo("pocketforge.stages.estimate", 2, ("numpy", "capstone")),
}


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """`suffix` of the file an app ships; distributions that export it and that run it; how to install them.

    preload: modules worth importing once, before the processes of several exports are forked from it.
    beside: roles of the files that an export writes beside the model file; each ships as NAME.ROLE.
    """

    module: str
    session: str
    suffix: str
    export_libraries: tuple[str, ...]
    run_libraries: tuple[str, ...]
    extra: str
    preload: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def with_library(self, distribution: str) -> RuntimeInfo:
        """The runtime as a plug-in's, whose version is part of what exports to it and of what runs it."""
        return dataclasses.replace(
            self,
            export_libraries=(*self.export_libraries, distribution),
            run_libraries=(*self.run_libraries, distribution),
        )


_RUNTIMES: dict[str, RuntimeInfo] = {
    "executorch": RuntimeInfo(
        "pocketforge.runtimes.executorch",
        "executorch",
        ".pte",
        ("executorch", "torchao"),
        ("executorch", "torch"),
        "executorch",
        (
            "executorch.exir",
            "executorch.backends.xnnpack.partition.xnnpack_partitioner",
            "executorch.devtools.backend_debug",
            "pocketforge.runtimes.executorch_patterns",
        ),
    ),
    "tflite": RuntimeInfo(
        "pocketforge.runtimes.tflite",
        "tflite",
        ".tflite",
        ("litert-torch", "ai-edge-litert", "torchao"),
        ("ai-edge-litert",),
        "tflite",
        ("litert_torch",),
    ),
    "onnx": RuntimeInfo(
        "pocketforge.runtimes.onnx",
        "onnx",
        ".onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        ("onnxruntime",),
        "onnx",
        ("onnx", "onnxscript", "torch.onnx"),
        beside=("ort",),
    ),
}
RUNTIMES = Registry("runtimes", RuntimeInfo, _RUNTIMES, RuntimeInfo.with_library)


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
        bench: What `pocketforge bench` does with it (`BenchOn` of commands/bench_kinds.py); empty where it cannot.
        bench_table: Function that shows these rows in the terminal (`ShowRows` of report/bench.py).
        words_with_names: Whether --device takes `KIND:WHICH` beside the kind's name.
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
    bench: str = ""
    bench_table: str = ""
    words_with_names: bool = False

    def with_library(self, name: str) -> DeviceInfo:
        """The row as a package brings it: results there change with the package's version."""
        return dataclasses.replace(self, libraries=(*self.libraries, name))


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
    ),
}
DEVICES = Registry("devices", DeviceInfo, _DEVICES, DeviceInfo.with_library)

# A kind of data → the module that opens it.
SOURCES = {
    "digits": "pocketforge.data.digits",
    "cifar10": "pocketforge.data.cifar10",
    "imagefolder": "pocketforge.data.imagefolder",
    "npz": "pocketforge.data.npz",
    "function": "pocketforge.data.function",
}

# A type of [[compress]] that prunes → its method.
METHODS = {
    "prune_unstructured": "pocketforge.pruning.unstructured",
    "prune_channels": "pocketforge.pruning.channels",
    "drop_layers": "pocketforge.pruning.layers",
}

# A model file's ending → what reads its operators' memory traffic.
READERS: dict[str, str] = {
    ".tflite": "pocketforge.runtimes.traffic_tflite",
    ".onnx": "pocketforge.runtimes.traffic_onnx",
    ".pte": "pocketforge.runtimes.traffic_executorch",
}
