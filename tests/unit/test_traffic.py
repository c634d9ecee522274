"""What a model file's operators move: the door. Real files of each runtime: tests/e2e/test_emulated_builds.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.errors import ModelError
from pocketforge.registries import file_formats
from pocketforge.runtimes.traffic import size_of, traffic_of


def test_a_format_that_is_not_read_names_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"known for \.pte, \.tflite, \.onnx, not for \.ort"):
        traffic_of(Path("model.ort"))
    assert {suffix for suffix, (_, each) in file_formats().items() if each.traffic} == {".tflite", ".onnx", ".pte"}


@given(st.lists(st.integers(0, 64), max_size=4))
def test_sizes_are_in_whole_bytes(shape: list[int]) -> None:
    elements = 1
    for size in shape:
        elements *= size
    assert size_of(shape, "float32", "x") == 4 * elements
    assert size_of(shape, "int8", "x") == elements
    assert size_of(shape, "int4", "x") == (elements + 1) // 2


@pytest.mark.parametrize(
    ("shape", "dtype", "said"), [([1, -1], "float32", "no fixed shape"), ([1], "str", "is of str")]
)
def test_what_has_no_size_is_refused(shape: list[int], dtype: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        size_of(shape, dtype, "x")
