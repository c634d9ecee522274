"""Recognising a model file and refusing what is not one: no toolchain needed."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pocketforge.errors import EXIT_USAGE, ModelError, ToolMissing
from pocketforge.registries import file_formats
from pocketforge.runtimes import describe as module
from pocketforge.runtimes.describe import (
    Contents,
    DelegateInfo,
    TensorInfo,
    WeightInfo,
    by_count,
    describe,
    detect,
    elements,
    is_parameter,
    stored_bytes,
    to_json,
)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b"\x1c\0\0\0TFL3" + bytes(8), "model.tflite", "tflite"),
        (b"\x1c\0\0\0TFL3" + bytes(8), "model.onnx", "tflite"),
        (b"\x3c\0\0\0ET12eh00", "model.pte", "pte"),
        (b"\x3c\0\0\0ET13eh00", "model.bin", "pte"),
        (b"\x18\0\0\0ORTM" + bytes(8), "model.bin", "ort"),
        (b"\x08\x0a\x12\x07pytorch", "model.bin", "onnx"),
        (b"\x12\x07pytorch\x08\x0a", "model.onnx", "onnx"),
        (b"\x12\x07pytorch\x08\x0a", "MODEL.ONNX", "onnx"),
    ],
)
def test_content_decides_then_extension(data: bytes, name: str, expected: str) -> None:
    assert detect(data, Path(name)) == expected


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (b"hello, this is text", "model.tflite", "wanted the identifier TFL3 at byte 4, found bytes b'hello, t'"),
        (b"hello, this is text", "model.pte", "wanted the identifier ET12"),
        (b"hello, this is text", "model.ort", "wanted the identifier ORTM"),
        (b"hello, this is text", "notes.txt", r"wanted a model file \(.pte, .tflite, .onnx, .ort\), found bytes"),
        (b"x", "model.tflite", r"\(1 bytes\)"),
        (b"PK\x03\x04" + bytes(40), "model.pt2", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "model.tflite", "a Git LFS pointer"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "model.tflite.gz", "gzip-compressed"),
    ],
)
def test_other_files_are_refused_with_what_was_found(tmp_path: Path, data: bytes, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ModelError, match=text) as caught:
        describe(path)
    assert caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.pte").write_bytes(b"")
    with pytest.raises(ModelError, match="found an empty file"):
        describe(tmp_path / "empty.pte")
    with pytest.raises(ModelError, match="No such file"):
        describe(tmp_path / "missing.pte")
    with pytest.raises(ModelError, match="found Is a directory"):
        describe(tmp_path)


class _Parser:
    """Stands in for a format's parser: gives or raises what it was made with."""

    def __init__(self, outcome: Contents | BaseException) -> None:
        self.outcome = outcome

    def parse(self, data: bytes, file_format: str) -> Contents:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def _name_parser(monkeypatch: pytest.MonkeyPatch, file_format: str, parser: str) -> None:
    formats = file_formats()
    runtime, known = formats[f".{file_format}"]
    formats[f".{file_format}"] = runtime, dataclasses.replace(known, parser=parser)
    for name in ("file_formats", "nearest_formats"):
        monkeypatch.setattr(module, name, lambda: formats)


def _with_parser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Contents | BaseException) -> Path:
    _name_parser(monkeypatch, "tflite", "fake_parser")
    monkeypatch.setitem(sys.modules, "fake_parser", _Parser(outcome))
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    return path


@pytest.mark.parametrize("error", [ValueError("bad"), IndexError(), KeyError(3), RecursionError(), MemoryError()])
def test_damage_becomes_a_model_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    path = _with_parser(monkeypatch, tmp_path, error)
    with pytest.raises(
        ModelError, match=r"wanted a whole .tflite file, found one that is truncated or damaged"
    ) as caught:
        describe(path)
    assert caught.value.__cause__ is error


def test_other_exceptions_are_not_called_damage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        describe(_with_parser(monkeypatch, tmp_path, KeyboardInterrupt()))


@pytest.mark.parametrize("file_format", [each.name for _, each in file_formats().values()])
def test_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file_format: str
) -> None:
    _name_parser(monkeypatch, file_format, "no_such_module_of_pocketforge")
    package = file_formats()[f".{file_format}"][1].package
    starts = {"pte": b"\0\0\0\0ET12", "tflite": b"\0\0\0\0TFL3", "ort": b"\0\0\0\0ORTM", "onnx": b"\x08\x0a\x12\x07"}
    path = tmp_path / f"model.{file_format}"
    path.write_bytes(starts[file_format] + bytes(100))
    with pytest.raises(ToolMissing, match=f"reading .{file_format} files needs {package}") as caught:
        describe(path)
    assert caught.value.hint == f"pip install {package}"


def test_totals_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = (
        WeightInfo("a", (4, 2), "int8", 8, 8, "CONV_2D_0"),
        WeightInfo("b", (4,), "int32", 4, 16, "CONV_2D_0"),
        WeightInfo("c", (2,), "int8", 2, 2, "CONV_2D_1"),
    )
    image = TensorInfo("image", (1, "?"), "int8")
    delegates = (DelegateInfo("XnnpackBackend", {"Conv2d": 1}),)
    contents = Contents((image,), (), {"PAD": 1, "CONV_2D": 2, "ADD": 1}, weights, {"k": "v"}, delegates, {"x": 1})
    found = describe(_with_parser(monkeypatch, tmp_path, contents))
    assert found.parameters == 14
    assert list(found.dtypes.items()) == [("int32", 16), ("int8", 10)]
    assert list(found.ops) == ["CONV_2D", "ADD", "PAD"]
    plain = to_json(found)
    assert plain["version"] == module.JSON_VERSION
    assert plain["inputs"] == [
        {"name": "image", "shape": [1, "?"], "dtype": "int8", "quantization": None, "bounded": False}
    ]
    assert plain["delegation"] == [{"name": "XnnpackBackend", "ops": {"Conv2d": 1}}]


def test_what_counts_as_a_parameter() -> None:
    assert is_parameter("float32", (3, 3), quantized=False)
    assert is_parameter("int8", (3, 3), quantized=False)
    assert is_parameter("int32", (8,), quantized=True)  # a quantized bias
    assert not is_parameter("int32", (4,), quantized=False)  # a shape
    assert not is_parameter("int64", (2,), quantized=False)  # axes
    assert not is_parameter("float32", (), quantized=False)  # an epsilon


def test_sizes() -> None:
    assert stored_bytes("float32", (2, 3)) == 24
    assert stored_bytes("int4", (5,)) == 3
    assert stored_bytes("string", (5,)) is None
    assert elements(()) == 1
    with pytest.raises(ValueError, match=r"shape \[2, -1\]"):
        elements((2, -1))
    assert by_count({"b": 1, "a": 1, "c": 5}) == {"c": 5, "a": 1, "b": 1}


def test_every_parser_exists_and_names_its_package() -> None:
    formats = [each for _, each in file_formats().values()]
    assert all(importlib.util.find_spec(each.parser) and each.package for each in formats)


def test_a_format_without_a_parser_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = _with_parser(monkeypatch, tmp_path, ValueError())
    _name_parser(monkeypatch, "tflite", "")
    with pytest.raises(ModelError, match="runtime tflite has no parser for it"):
        describe(path)


def test_importing_is_light() -> None:
    code = "import sys, pocketforge.runtimes.describe; print(sorted(sys.modules))"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert not [name for name in ("torch", "numpy", "onnx", "flatbuffers", "executorch") if f"'{name}'" in loaded]
