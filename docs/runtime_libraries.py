"""Write pipeline/pocketforge/recipe/runtime_libraries.json and its tables in docs/size.md:
`python docs/runtime_libraries.py FOLDER`.

FOLDER holds the packages of _ROWS as `pip download` and `npm pack` lay them there. Needs brotli, zstandard and
pyelftools, and two minutes of a core. A package that is not there keeps the row that the file has. Nothing is written
by hand but which files of a package an app carries.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from pocketforge.recipe.runtime_libraries import DATA
from pocketforge.results.packing import COMPRESSIONS

PAGE = Path(__file__).with_name("size.md")
_UNITY = "com.github.asus4.onnxruntime-0.4.9.tgz"
_UNITY_WORDS = (
    "npm com.github.asus4.onnxruntime 0.4.9 (a plug-in for Unity): the libraries of Plugins/Android/onnxruntime.aar, "
    "which say of themselves that they are ONNX Runtime 1.29.0 of git commit 2e2543fbe9"
)
_RNE = "react-native-executorch-0.9.3.tgz"
_RNE_WORDS = (
    "npm react-native-executorch 0.9.3: Software Mansion's build, with the operators of its own models; it also needs "
    "libfbjni.so, which is not in the package"
)


def _row(name: str, runtime: str, library: str, version: str, abi: str, source: str, default: bool) -> dict[str, Any]:
    return {
        "name": name,
        "runtime": runtime,
        "library": library,
        "version": version,
        "abi": abi,
        "source": source,
        "default": default,
    }


def _android_onnx(abi: str) -> tuple[dict[str, Any], str, list[str]]:
    names = ("libonnxruntime.so", "libonnxruntime4j_jni.so")
    row = _row(f"onnxruntime-1.29.0-{abi}", "onnx", "ONNX Runtime", "1.29.0", abi, _UNITY_WORDS, True)
    aar = "package/Plugins/Android/onnxruntime.aar"
    return row, _UNITY, [f"{aar}!jni/{abi}/{name}" for name in names]


def _react_native(abi: str, *, beside: tuple[str, ...]) -> tuple[dict[str, Any], str, list[str]]:
    row = _row(
        f"react-native-executorch-0.9.3-{abi}", "executorch", "React Native ExecuTorch", "0.9.3", abi, _RNE_WORDS, False
    )
    folder = "package/third-party/android/libs"
    files = [f"{folder}/executorch/{abi}/libexecutorch.so", *(f"{folder}/{n}/{abi}/lib{n}.so" for n in beside)]
    return row, _RNE, files


# A row without its files, the package, and the files in it that an app carries; `!` goes into an archive.
_ROWS: list[tuple[dict[str, Any], str, list[str]]] = [
    _android_onnx("arm64-v8a"),
    _android_onnx("armeabi-v7a"),
    _react_native("arm64-v8a", beside=("pthreadpool", "cpuinfo")),
    (
        _row(
            "onnxruntime-1.32.0-linux-aarch64", "onnx", "ONNX Runtime", "1.32.0", "linux-aarch64",
            "PyPI onnxruntime 1.32.0, wheel cp311 manylinux_2_28_aarch64", True,
        ),
        "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        ["onnxruntime/capi/libonnxruntime.so.1.32.0"],
    ),
    (
        _row(
            "litert-2.3.0-linux-aarch64", "tflite", "LiteRT", "2.3.0", "linux-aarch64",
            "PyPI ai-edge-litert 2.3.0, wheel cp311 manylinux_2_27_aarch64", True,
        ),
        "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl",
        ["ai_edge_litert/libLiteRt.so"],
    ),
    (
        _row(
            "tflite-runtime-2.14.0-linux-aarch64", "tflite", "TensorFlow Lite", "2.14.0", "linux-aarch64",
            "PyPI tflite-runtime 2.14.0, wheel cp311 manylinux_2_34_aarch64; with its Python binding", False,
        ),
        "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_aarch64.whl",
        ["tflite_runtime/_pywrap_tensorflow_interpreter_wrapper.so"],
    ),
    (
        _row(
            "executorch-1.5.1-linux-aarch64", "executorch", "ExecuTorch", "1.5.1", "linux-aarch64",
            "PyPI executorch 1.5.1, wheel cp311 manylinux_2_28_aarch64: its core, the XNNPACK backend and all of its "
            "optimized and portable kernels", True,
        ),
        "executorch-1.5.1-cp311-cp311-manylinux_2_28_aarch64.whl",
        [
            f"executorch/lib/libexecutorch{part}.so"
            for part in ("", "_backend_xnnpack", "_kernels_optimized", "_threadpool")
        ],
    ),
    (
        _row(
            "onnxruntime-web-1.30.0-wasm32", "onnx", "ONNX Runtime Web", "1.30.0", "wasm32",
            "npm onnxruntime-web 1.30.0, the WebAssembly of its CPU kernels", True,
        ),
        "onnxruntime-web-1.30.0.tgz",
        ["package/dist/ort-wasm-simd-threaded.wasm", "package/dist/ort-wasm-simd-threaded.mjs"],
    ),
    (
        _row(
            "litert-js-2.5.3-wasm32", "tflite", "LiteRT.js", "2.5.3", "wasm32",
            "npm @litertjs/core 2.5.3, its WebAssembly without threads", True,
        ),
        "litertjs-core-2.5.3.tgz",
        ["package/wasm/litert_wasm_internal.wasm", "package/wasm/litert_wasm_internal.js"],
    ),
]  # fmt: skip


def _bytes_of(package: Path, member: str) -> bytes:
    outer, _, inner = member.partition("!")
    if package.suffix == ".tgz":
        with tarfile.open(package) as tar:
            file = tar.extractfile(outer)
            assert file is not None, outer
            data = file.read()
    else:
        data = zipfile.ZipFile(package).read(outer)
    return zipfile.ZipFile(io.BytesIO(data)).read(inner) if inner else data


def _file(package: Path, member: str) -> dict[str, Any]:
    data = _bytes_of(package, member)
    elf = data[:4] == b"\x7fELF"
    packed = {f"{name}_bytes": compress(data) for name, compress in COMPRESSIONS.items()}
    return {
        "name": member.rpartition("/")[2],
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        **packed,
        "stripped": ELFFile(io.BytesIO(data)).get_section_by_name(".symtab") is None if elf else None,
    }


def _tables(data: dict[str, Any]) -> str:
    """As docs/size.md has them."""
    stripped = {True: "yes", False: "no", None: "-"}
    lines = ["| library | ABI | file | bytes | gzip | zstd | brotli | stripped |", "|---|---|---|---|---|---|---|---|"]
    for row in data["libraries"]:
        for file in row["files"]:
            sizes = [f"{file[key]:,}" for key in ("size_bytes", *(f"{name}_bytes" for name in COMPRESSIONS))]
            cells = [f"`{row['name']}`", row["abi"], f"`{file['name']}`", *sizes, stripped[file["stripped"]]]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| library | counted where nothing else is said | read from |", "|---|---|---|"]
    for row in data["libraries"]:
        lines.append(f"| `{row['name']}` | {'yes' if row['default'] else 'no'} | {row['source']} |")
    lines += ["", "| runtime | library | published as | size |", "|---|---|---|---|"]
    for each in data["not_read"]:
        lines.append(f"| {each['runtime']} | {each['library']} | {each['source']} | not read here |")
    return "\n".join(lines)


def main(folder: Path) -> None:
    before = json.loads(DATA.read_text("utf-8"))
    known = {row["name"]: row["files"] for row in before["libraries"]}
    there = {row["name"]: (folder / package, files) for row, package, files in _ROWS if (folder / package).is_file()}
    missing = [package for row, package, _ in _ROWS if row["name"] not in {*there, *known}]
    if missing:
        sys.exit(f"not in {folder}, and {DATA.name} has no row of them: {', '.join(missing)}")
    with concurrent.futures.ProcessPoolExecutor() as pool:
        measured = {
            name: [pool.submit(_file, package, member) for member in members]
            for name, (package, members) in there.items()
        }
        read = {name: [each.result() for each in files] for name, files in measured.items()}
    rows = [{**row, "files": read.get(row["name"]) or known[row["name"]]} for row, _, _ in _ROWS]
    data = {**before, "libraries": rows}
    DATA.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    head, mark, rest = PAGE.read_text("utf-8").partition("<!-- libraries -->\n")
    _, end, tail = rest.partition("<!-- /libraries -->")
    PAGE.write_text(f"{head}{mark}{_tables(data)}\n{end}{tail}", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
