"""Samples to raw files and back, without an emulator."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pocketforge.devices.emulator import arrays
from pocketforge.errors import ToolFailed
from pocketforge.outcomes.tensors import TensorSpec


def tensor(name="x", dtype="float32", shape=(1, 2), **more):
    return TensorSpec(name, tuple(shape), dtype, **more)


def stated(name="x", dtype="float32", shape=(1, 2), **more):
    """As a runner's answer has it."""
    return {"name": name, "dtype": dtype, "shape": list(shape), **more}


def written(tmp_path, info, samples, **more):
    np.save(tmp_path / "x.npy", samples)
    (path,) = arrays.write_inputs([info], [tmp_path / "x.npy"], tmp_path, model="m", **more)
    return np.fromfile(path, info.dtype).reshape(-1, *info.shape)


def test_samples_are_written_back_to_back_in_any_number_of_chunks(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).random((7, 3, 4, 5), np.float32)
    whole = written(tmp_path, tensor(shape=(1, 3, 4, 5)), samples)
    np.testing.assert_array_equal(whole[:, 0], samples)
    monkeypatch.setattr(arrays, "_CHUNK_BYTES", 2 * samples[0].nbytes)
    np.testing.assert_array_equal(written(tmp_path, tensor(shape=(1, 3, 4, 5)), samples), whole)
    np.testing.assert_array_equal(written(tmp_path, tensor(shape=(1, 3, 4, 5)), samples, limit=3), whole[:3])


def test_channels_go_last_where_the_file_has_them_last(tmp_path):
    samples = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    found = written(tmp_path, tensor(shape=(1, 4, 5, 3)), samples)
    np.testing.assert_array_equal(found[:, 0], samples.transpose(0, 2, 3, 1))


def test_integers_are_quantized_by_the_files_scale_and_token_ids_are_not(tmp_path):
    samples = np.array([[-100.0, 0.26], [0.74, 100.0]], np.float32)
    found = written(tmp_path, tensor(dtype="int8", scale=0.5, zero_point=-1), samples)
    assert found.ravel().tolist() == [-128, 0, 0, 127]
    assert written(tmp_path, tensor(dtype="int64"), np.array([[1, 2]])).ravel().tolist() == [1, 2]


def test_samples_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ToolFailed, match=r"takes shape \[1, 2\], the samples have \[1, 3\]"):
        written(tmp_path, tensor(), np.zeros((2, 3), np.float32))
    with pytest.raises(ToolFailed, match="it takes 1 inputs, 0 were given"):
        arrays.write_inputs([tensor()], [], tmp_path, model="m")


def test_outputs_come_back_samples_first_and_without_the_batch_axis(tmp_path):
    values = np.arange(12, dtype=np.int8)
    values.tofile(tmp_path / "raw")
    answer: dict[str, Any] = {"outputs": [stated(dtype="int8", shape=(1, 2, 2), file=str(tmp_path / "raw"))]}
    arrays.read_outputs(answer["outputs"], tmp_path / "out", 3)
    found = np.load(tmp_path / "out" / "outputs_0.npy")
    assert found.dtype == np.int8 and found.tolist() == values.reshape(3, 2, 2).tolist()


def test_tensors_are_described_as_each_runtimes_session_does():
    found = {**stated("in:0", in_signature=True, size_bytes=8), "scale": 0.5, "zero_point": 3}
    answer: Any = {"metadata": None, "inputs": [found], "outputs": []}
    assert arrays.described(answer, "tflite") == (
        [tensor("in", scale=0.5, zero_point=3)],
        [],
    )
    answer = {"metadata": json.dumps({"in": {"scale": 0.1, "zero_point": 0}}), "inputs": [stated("in")], "outputs": []}
    assert arrays.described(answer, "onnx")[0] == [tensor("in", scale=0.1, zero_point=0)]
    io = {"inputs": [{"name": "a"}], "outputs": [{"name": "b", "scale": 2.0, "zero_point": 1}]}
    answer = {"metadata": json.dumps(io), "inputs": [stated("")], "outputs": [stated(""), stated("")]}
    assert arrays.described(answer, "executorch") == (
        [tensor("a")],
        [tensor("b", scale=2.0, zero_point=1), tensor("")],
    )
