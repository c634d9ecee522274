"""What can be plugged in: visible dicts of name → where it is, imported on use.

This module imports nothing but the standard library: it is read before anything heavy is.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    "data": StageInfo("pocketforge.stages.data", 1, ("numpy", "pillow", "scikit-learn"), user_code=True),
    "finetune": StageInfo(
        "pocketforge.stages.finetune", 4, (*_TRAIN, "accelerate"), _TRACE, resumable=True, user_code=True
    ),
    "prune": StageInfo("pocketforge.stages.prune", 4, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "sensitivity": StageInfo("pocketforge.stages.sensitivity", 3, (*_TRAIN, "torch-pruning"), _TRACE, user_code=True),
    "gains": StageInfo("pocketforge.stages.gains", 3, ("torch", "numpy"), _TRACE, user_code=True),
    "reference": StageInfo("pocketforge.stages.reference", 4, ("torch", "numpy"), _TRACE, user_code=True),
    "layers": StageInfo(
        "pocketforge.stages.layers", 3, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True
    ),
    "quantize": StageInfo(
        "pocketforge.stages.quantize",
        6,
        (*_TRAIN, "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "qat": StageInfo(
        "pocketforge.stages.qat",
        3,
        (*_TRAIN, "accelerate", "torchao", "executorch"),
        _TRACE + _PT2E,
        resumable=True,
        user_code=True,
    ),
    "export": StageInfo("pocketforge.stages.export", 6, ("torch",), _TRACE),
    "verify": StageInfo("pocketforge.stages.verify", 4, ("numpy",)),
    "why": StageInfo("pocketforge.stages.why", 2, (*_TRAIN, "torchao", "executorch"), _TRACE + _PT2E, user_code=True),
    "bench": StageInfo("pocketforge.stages.bench", 3, ("numpy",)),
    "verify_device": StageInfo("pocketforge.stages.verify_device", 2, ("numpy",)),
    "bench_phone": StageInfo("pocketforge.stages.bench_phone", 1, ("numpy",)),
    "count": StageInfo("pocketforge.stages.count", 1, ("numpy", "capstone", "pyelftools")),
    "estimate": StageInfo("pocketforge.stages.estimate", 1, ("numpy", "capstone")),
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


RUNTIMES: dict[str, RuntimeInfo] = {
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

# A kind of device → the module that runs files on it.
DEVICES = {
    "host": "pocketforge.devices.host",
    "emulator": "pocketforge.devices.emulator.device",
    "adb": "pocketforge.devices.adb",
}

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
