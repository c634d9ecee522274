"""Counting a calibration model with the emulator."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pocketforge.device_calibration.published import Published
from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceError

TIMEOUT_S = 600


def counter() -> Callable[[bytes, Published, DeviceProfile, Cluster, str], list[tuple[int, int, tuple[int, ...]]]]:
    """A function for `datasets.gather`. Raises DeviceUnavailable when the emulator is not set up."""
    from pocketforge.devices.emulator import counting, launch, parts

    emulator = parts.installed()

    def count(
        data: bytes, m: Published, profile: DeviceProfile, cluster: Cluster, kernels: str
    ) -> list[tuple[int, int, tuple[int, ...]]]:
        if kernels != "xnnpack":
            raise DeviceError(
                f"{m.name} was measured with TFLite's built-in kernels, and the emulator's runner runs XNNPACK's",
                "leave out --recount: its counts are among the stored ones; or drop the row",
            )
        with tempfile.TemporaryDirectory(prefix="pocketforge-calibrate-") as scratch:
            model, values = Path(scratch, "model.tflite"), Path(scratch, "input.bin")
            model.write_bytes(data)
            values.write_bytes(_input(data))
            order = launch.Order(
                "tflite", model, hashlib.sha256(data).hexdigest(), (values,), Path(scratch, "out"), "count"
            )
            counts = counting.count(launch.Machine(emulator, profile, cluster, TIMEOUT_S), order)
        if not counts.conclusive:
            raise DeviceError(f"two windows of {m.name} on {cluster.core} counted differently", "count again")
        return [(block.pc, block.executions, block.words) for block in counts.blocks]

    return count


def _input(data: bytes) -> bytes:
    """One seeded sample for the file's only input: kernels do not branch on values, so any will do."""
    graph = schema.Model.GetRootAsModel(bytearray(data), 0).Subgraphs(0)
    tensor = graph.Tensors(int(graph.Inputs(0)))
    values = np.random.default_rng(0).standard_normal(math.prod(int(n) for n in tensor.ShapeAsNumpy()))
    if tensor.Type() == schema.TensorType.INT8:
        return np.clip(np.rint(values * 20), -128, 127).astype(np.int8).tobytes()
    return values.astype(np.float32).tobytes()
