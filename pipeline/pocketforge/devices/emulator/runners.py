"""Building the native runners (android_bench/runner) with zig: arm64 programs, one a runtime. No system compiler.

They are linked to glibc 2.34, which is what LiteRT's own library wants, and not stripped: a count finds its window by
two symbols' names.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import android_bench
from pocketforge.devices.emulator import commands, pinned, torch_stub
from pocketforge.errors import ToolFailed, ToolMissing

SOURCES = Path(android_bench.__file__).parent / "runner"
PROGRAMS = {"tflite": "pf_litert", "onnx": "pf_onnxruntime", "executorch": "pf_executorch"}
"""Runtime → the program's name."""

_COMMON = ("main.c", "options.c", "files.c", "process.c", "answer.c", "sha256.c", "marks.c")
_OWN = {"tflite": "litert.c", "onnx": "onnxruntime.c", "executorch": "executorch.c"}
# zig traps on undefined behaviour unless told not to, which would be in the counts.
_FLAGS = ("-target", "aarch64-linux-gnu.2.34", "-O2", "-g0", "-fno-sanitize=undefined", "-Wall", "-Wextra", "-Werror")
_SHARED = ("-shared", "-fPIC")
_HINT = "this is a fault of Pocketforge or of the compiler: please report it with this output"

_LIBRARY = "executorch/extension/pybindings"
_HEADERS = ("executorch/include", "executorch/include/executorch/runtime/core/portable_type/c10")
# The dependencies of ExecuTorch's library that are stood in for: the symbols of all are in the first.
_STAND_INS = ("libtorch_cpu", "libtorch", "libc10", "libtorch_python")
_SYSTEM = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1")


def build(zig: Path, folder: Path, wheels: Mapping[str, Path], sysroot: Path) -> dict[str, Path]:
    """Compile into `folder`, which exists: the three programs, and pf_executorch.libs, which the last needs beside it.

    zig: the compiler's program. wheels: runtime → folder of its unpacked wheel; only ExecuTorch's is read, for its
    headers and its library. sysroot: holds lib/ with the arm64 C++ library. Raises ToolFailed with the compiler's
    words; ToolMissing where torch's headers are not installed.
    """
    for runtime, program in PROGRAMS.items():
        run_path = [f"-Wl,-rpath,$ORIGIN/{program}.libs"] if runtime == "executorch" else []
        sources = [SOURCES / name for name in (*_COMMON, _OWN[runtime])]
        _compile(zig, folder, "cc", ["-std=c11", *run_path, *sources, "-o", folder / program])
    libraries = folder / f"{PROGRAMS['executorch']}.libs"
    libraries.mkdir(exist_ok=True)
    _build_engine(zig, libraries, wheels["executorch"])
    _build_stand_ins(zig, libraries, wheels["executorch"], sysroot)
    return {runtime: folder / program for runtime, program in PROGRAMS.items()}


def _build_engine(zig: Path, folder: Path, wheel: Path) -> None:
    flags = ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wno-deprecated-declarations"]
    # Only headers are used of zig's own C++ library: linking it would mean compiling it first, which takes minutes.
    flags += ["-D_LIBCPP_VERBOSE_ABORT(...)=__builtin_abort()", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    flags += [f'-DPF_EXECUTORCH_VERSION="{pinned.RUNTIMES["executorch"].version}"']
    for headers in _HEADERS:
        flags += ["-isystem", os.fspath(wheel / headers)]
    compiled = folder / "engine.o"
    _compile(zig, folder, "c++", ["-c", "-fPIC", *flags, SOURCES / "executorch_engine.cpp", "-o", compiled])
    _compile(zig, folder, "cc", [*_SHARED, compiled, "-o", folder / "libpf_engine.so"])
    compiled.unlink()


def _build_stand_ins(zig: Path, folder: Path, wheel: Path, sysroot: Path) -> None:
    library = _only(wheel / _LIBRARY, "_portable_lib.*.so")
    providers = [sysroot / "lib" / name for name in _SYSTEM]
    source = folder / "stand_ins.c"
    try:
        source.write_text(torch_stub.source(torch_stub.missing_symbols(library, providers)), encoding="ascii")
    except ValueError as error:
        raise ToolFailed(["making ExecuTorch's stand-ins"], 1, f"{library.name}: {error}") from None
    empty = folder / "empty.c"
    empty.write_text("extern int pf_nothing;\n", encoding="ascii")
    first, *others = _STAND_INS
    inputs: list[str | Path] = [
        "-std=c11",
        "-isystem",
        _torch_headers(),
        source,
        SOURCES / "cpuinfo.c",
        sysroot / "lib" / "libstdc++.so.6",
    ]
    _compile(zig, folder, "cc", [*_SHARED, *inputs, f"-Wl,-soname,{first}.so", "-o", folder / f"{first}.so"])
    for name in others:
        _compile(zig, folder, "cc", [*_SHARED, empty, f"-Wl,-soname,{name}.so", "-o", folder / f"{name}.so"])
    source.unlink()
    empty.unlink()


def _torch_headers() -> Path:
    """torch's include folder, found without importing it: its cpuinfo.h is the one that ExecuTorch is built with."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ToolMissing("building ExecuTorch's runner needs torch's headers, and torch is not installed")
    headers = Path(spec.origin).parent / "include"
    if not (headers / "cpuinfo.h").is_file():
        raise ToolMissing(f"building ExecuTorch's runner needs {headers / 'cpuinfo.h'}", "install torch from its wheel")
    return headers


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ToolFailed(
            ["building ExecuTorch's runner"], 1, f"{folder} has {len(found)} files like {pattern}, wanted 1"
        )
    return found[0]


def _compile(zig: Path, folder: Path, language: str, arguments: Sequence[str | Path]) -> None:
    argv = [os.fspath(zig), language, *_FLAGS, *(os.fspath(a) for a in arguments)]
    commands.run(argv, cwd=folder, doing="compiling", emit=lambda text: None, hint=_HINT)
