"""The runtimes: a visible registry, imported on use.

A runtime is an export module (`export(...)`, with the toolchain) and a session module under `sessions/`, which
opens one exported file with only the runtime itself, in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """`suffix` of the file an app ships; distributions that export it and that run it; how to install them."""

    module: str
    session: str
    suffix: str
    export_libraries: tuple[str, ...]
    run_libraries: tuple[str, ...]
    extra: str
    preload: tuple[str, ...] = ()


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
    ),
}
