"""Building the native runners (android_bench/runner) with zig: arm64 programs, one a runtime. No system compiler.

They are linked to glibc 2.34, which is what LiteRT's own library wants, and not stripped: a count finds its window by
two symbols' names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import android_bench
from pocketforge.devices.emulator import commands, pinned

SOURCES = Path(android_bench.__file__).parent / "runner"
PROGRAMS = {"tflite": "pf_litert", "onnx": "pf_onnxruntime", "executorch": "pf_executorch"}
"""Runtime → the program's name."""

_COMMON = ("main.c", "options.c", "files.c", "process.c", "answer.c", "sha256.c", "marks.c")
_OWN = {"tflite": ("litert.c",), "onnx": ("onnxruntime.c", "clock.c"), "executorch": ("executorch.c",)}
# zig traps on undefined behaviour unless told not to, which would be in the counts.
_FLAGS = ("-target", "aarch64-linux-gnu.2.34", "-O2", "-g0", "-fno-sanitize=undefined", "-Wall", "-Wextra", "-Werror")
_LINKED = {
    # Libraries look for a clock in the program first, and find clock.c's.
    "onnx": ("-fvisibility=hidden", "-rdynamic"),
    "executorch": (f"-Wl,-rpath,$ORIGIN/{PROGRAMS['executorch']}.libs",),
}
_SHARED = ("-shared", "-fPIC")
_HINT = "this is a fault of Pocketforge or of the compiler: please report it with this output"

_HEADERS = ("executorch/include", "executorch/include/executorch/runtime/core/portable_type/c10")
# What the libraries were built with: the wheel's own package for CMake says so.
_DEFINED = ("-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED")


def build(zig: Path, folder: Path, wheels: Mapping[str, Path]) -> dict[str, Path]:
    """Compile into `folder`, which exists: the three programs, and pf_executorch.libs, which the last needs beside it.

    zig: the compiler's program. wheels: runtime → folder of its unpacked wheel; only ExecuTorch's is read, for its
    headers. Raises ToolFailed with the compiler's words.
    """
    for runtime, program in PROGRAMS.items():
        sources = [SOURCES / name for name in (*_COMMON, *_OWN[runtime])]
        _compile(zig, folder, "cc", ["-std=c11", *_LINKED.get(runtime, ()), *sources, "-o", folder / program])
    libraries = folder / f"{PROGRAMS['executorch']}.libs"
    libraries.mkdir(exist_ok=True)
    _build_engine(zig, libraries, wheels["executorch"])
    return {runtime: folder / program for runtime, program in PROGRAMS.items()}


def _build_engine(zig: Path, folder: Path, wheel: Path) -> None:
    flags = ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wno-deprecated-declarations"]
    # Only headers are used of zig's own C++ library: linking it would mean compiling it first, which takes minutes.
    flags += ["-D_LIBCPP_VERBOSE_ABORT(...)=__builtin_abort()", *_DEFINED]
    flags += [f'-DPF_EXECUTORCH_VERSION="{pinned.RUNTIMES["executorch"].version}"']
    for headers in _HEADERS:
        flags += ["-isystem", os.fspath(wheel / headers)]
    compiled = folder / "engine.o"
    _compile(zig, folder, "c++", ["-c", "-fPIC", *flags, SOURCES / "executorch_engine.cpp", "-o", compiled])
    _compile(zig, folder, "cc", [*_SHARED, compiled, "-o", folder / "libpf_engine.so"])
    compiled.unlink()


def _compile(zig: Path, folder: Path, language: str, arguments: Sequence[str | Path]) -> None:
    argv = [os.fspath(zig), language, *_FLAGS, *(os.fspath(a) for a in arguments)]
    commands.run(argv, cwd=folder, doing="compiling", emit=lambda text: None, hint=_HINT)
