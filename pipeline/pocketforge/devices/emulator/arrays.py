"""Samples (.npy) to the raw files that a native runner reads, and its raw outputs back to .npy.

The conventions are those of the host's runner (runtimes/sessions/runner.py), to the bit: a batch of one, channels
last where the file has them last, and quantized by the file's own scale where its inputs are integers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.devices.answers import NativeAnswer, NativeTensor
from pocketforge.devices.emulator.native_runners import native_runner
from pocketforge.errors import ToolFailed
from pocketforge.metrics import Array
from pocketforge.outcomes.tensors import TensorSpec, as_told

# Samples are converted so many bytes at a time.
_CHUNK_BYTES = 64 * 1024 * 1024


def described(answer: NativeAnswer, runtime: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The inputs and outputs in a runner's answer as the host's session of that runtime describes them."""
    io = native_runner(runtime).io
    known = json.loads(answer["metadata"] or "{}")
    sides = (("inputs", answer["inputs"]), ("outputs", answer["outputs"]))
    inputs, outputs = (
        [_described(io, known, side, at, tensor) for at, tensor in enumerate(tensors)] for side, tensors in sides
    )
    return inputs, outputs


def _described(io: str, known: dict[str, Any], side: str, at: int, told: NativeTensor) -> TensorSpec:
    """known: what the file itself holds of its inputs and outputs."""
    tensor = as_told(told)
    if io == "tensor":
        # Tensor names end in ":0" where a converter appended it.
        return replace(tensor, name=tensor.name.removesuffix(":0"))
    if io == "name":
        return replace(tensor, **known.get(tensor.name, {}))
    named = known.get(side, [])
    return replace(tensor, **(named[at] if at < len(named) else {}))


def write_inputs(
    tensors: Sequence[TensorSpec], samples: Sequence[Path], folder: Path, *, model: str, limit: int = 0
) -> tuple[Path, ...]:
    """input_0.bin … in `folder`: the first `limit` samples (0: all) of each .npy as the model's inputs `tensors` take
    them, little-endian, back to back. Raises ToolFailed where they do not fit the model."""
    if len(samples) != len(tensors):
        raise _unfit(model, f"it takes {len(tensors)} inputs, {len(samples)} were given")
    written = []
    for index, (tensor, path) in enumerate(zip(tensors, samples, strict=True)):
        try:
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise _unfit(model, f"cannot read the samples {path}: {error}") from None
        count = min(limit, len(array)) if limit else len(array)
        step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
        written.append(folder / f"input_{index}.bin")
        with written[-1].open("wb") as file:
            for start in range(0, count, step):
                chunk = np.asarray(array[start : min(start + step, count)])
                converted(chunk, tensor, model).tofile(file)
    return tuple(written)


def read_outputs(outputs: Sequence[NativeTensor], folder: Path, samples: int) -> None:
    """The runner's output files as outputs_0.npy … in `folder`: samples first, without the batch axis."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, output in enumerate(outputs):
        shape = tuple(output["shape"])
        if not shape:
            raise ToolFailed([f"reading output {output['name']}"], 1, "it has no batch axis")
        raw = np.memmap(output["file"], dtype=np.dtype(output["dtype"]).newbyteorder("<"), mode="r")
        assert raw.size == samples * math.prod(shape)
        rows = raw.reshape((samples, *shape))
        # A state whose batch axis is not the first is stored whole.
        rows = rows[:, 0] if shape[0] == 1 else rows
        np.save(folder / f"outputs_{index}.npy", rows.astype(output["dtype"], copy=False))


def converted(chunk: Array, tensor: TensorSpec, model: str) -> Array:
    """Prepared samples [n, …] as the file takes each of them: [n, *tensor.shape], little-endian. Raises ToolFailed."""
    shape = tensor.shape
    # Each sample with a batch axis of one; a state whose batch axis is not the first has it already.
    batch = chunk if chunk.shape[1:] == shape and shape[:1] != (1,) else chunk[:, None]
    if chunk.ndim == 4 and batch.shape[1:] != shape and np.moveaxis(batch, 2, 4).shape[1:] == shape:
        batch = np.moveaxis(batch, 2, 4)
    if batch.shape[1:] != shape:
        given = list(batch.shape[1:])
        raise _unfit(model, f"input {tensor.name} takes shape {list(shape)}, the samples have {given}")
    if tensor.dtype in ("int8", "uint8") and tensor.scale:
        limits = np.iinfo(tensor.dtype)
        levels = np.rint(batch / tensor.scale) + (tensor.zero_point or 0)
        batch = np.clip(levels, limits.min, limits.max)
    return np.ascontiguousarray(batch.astype(np.dtype(tensor.dtype).newbyteorder("<")))


def _unfit(model: str, fault: str) -> ToolFailed:
    return ToolFailed([f"running {model}"], 1, fault)
