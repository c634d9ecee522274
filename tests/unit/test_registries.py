"""What the registry's rows promise each other: a part that is named in one place only is an error here."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from pocketforge.devices.emulator import pinned, runners
from pocketforge.devices.emulator.native_runners import native_runner
from pocketforge.errors import DeviceError, PluginFailed
from pocketforge.registries import RUNTIMES, FileFormat, PlainSession, RuntimeInfo, Why, file_formats, runtime_of


def test_what_runs_on_arm_cores_has_its_program_its_source_and_its_wheel() -> None:
    native = {name: info.native for name, info in RUNTIMES.items() if info.native is not None}
    assert set(native) == set(runners.PROGRAMS) == set(pinned.RUNTIMES)
    assert {name: each.package for name, each in native.items()} == {n: w.name for n, w in pinned.RUNTIMES.items()}
    for name in native:
        assert native_runner(RUNTIMES[name].session) is native[name]
    with pytest.raises(DeviceError, match="no runner for onnx_reference"):
        native_runner("onnx_reference")


def test_a_session_is_of_one_runtime() -> None:
    assert (runtime_of("onnx"), runtime_of("onnx_reference"), runtime_of("executorch")) == (
        "onnx",
        "onnx",
        "executorch",
    )
    with pytest.raises(KeyError):
        runtime_of("nobody")


def test_two_runtimes_cannot_have_one_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {suffix: runtime for suffix, (runtime, _) in file_formats().items()} == {
        ".pte": "executorch", ".tflite": "tflite", ".onnx": "onnx", ".ort": "onnx",
    }  # fmt: skip
    other = dataclasses.replace(RUNTIMES["onnx"], formats=(FileFormat(".pte"),))
    monkeypatch.setattr(RUNTIMES, "_added", {"other": other})
    with pytest.raises(PluginFailed, match=r"\.pte files are of runtime executorch and of runtime other"):
        file_formats()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("suffix", "pte", "a dot and letters or digits, found 'pte'"),
        ("suffix", "./x", "a dot and letters or digits, found './x'"),
        ("start", b"(", "start must be a pattern of bytes, found b'(': missing"),
        ("start", "text", "start must be a pattern of bytes, found 'text': cannot use a string pattern"),
        ("start", b".*", "start fits every file"),
        ("identifier", b"TFL3x", "at most four bytes"),
    ],
)
def test_a_format_that_no_file_or_every_file_would_be_of_is_refused(field: str, value: object, said: str) -> None:
    """At import: a pattern that is none ended `inspect` of any file with re.error."""
    values: dict[str, Any] = {"suffix": ".a", field: value}
    with pytest.raises(ValueError, match=re.escape(said)):
        FileFormat(**values)


def test_half_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="formats is empty"):
        RuntimeInfo("a", "b", (), (), (), "A")
    with pytest.raises(ValueError, match=r"formats must be FileFormats, found '\.a'"):
        RuntimeInfo("a", "b", ".a", (), (), "A")  # type: ignore[arg-type]
    plain = PlainSession("onnx_reference", "plainly")
    for parts in ({}, {"tap": "a"}, {"plain": plain}, {"tap": "a", "plain": plain, "lowered": "b"}):
        with pytest.raises(ValueError, match="give a tap and a plain session, or else a lowered form"):
            Why("folded", **parts)  # type: ignore[arg-type]


def test_what_is_missing_says_how_to_get_it() -> None:
    assert RUNTIMES["onnx"].install == "pip install onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2"
    outside = RuntimeInfo("a", "b", (FileFormat(".a"),), ("torch", "x"), ("x",), "A").with_library("a-package")
    assert outside.install == "pip install torch x a-package"
