"""Model files as other people's tools make them: by onnx's helper and by TFLite's own schema, no exporter of ours.

All are one linear classifier of the digits, channels last, fitted to the samples that it is judged on: right or wrong
is what its tests are about, not how good it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def fitted(data: Path) -> tuple[Floats, Floats]:
    """Weights [1024, 10] and biases of channels-last pixels, by least squares. data: the folder of stage `data`."""
    samples = np.load(data / "eval_0.npy")
    pixels = np.moveaxis(samples, 1, 3).reshape(len(samples), -1)
    wanted = 8 * np.eye(10)[np.load(data / "eval_targets.npy")] - 4
    around = np.hstack([pixels, np.ones((len(pixels), 1))])
    found = np.linalg.solve(around.T @ around + 3 * np.eye(around.shape[1]), around.T @ wanted)
    return found[:-1].astype(np.float32), found[-1].astype(np.float32)


def linear_onnx(
    path: Path,
    weights: Floats,
    biases: Floats,
    *,
    shape: Sequence[int | str] = ("N", 32, 32, 1),
    names: tuple[str, str] = ("pixels", "scores:0"),
    dtype: str = "FLOAT",
    domain: str = "",
) -> Path:
    """input → Cast → Flatten → Gemm. domain: of an operator that no runtime has, put before the end; empty for none."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    taken, given = names
    nodes = [
        helper.make_node("Cast", [taken], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["sums" if domain else given]),
    ]
    if domain:
        nodes.append(helper.make_node("Mine", ["sums"], [given], domain=domain))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(taken, getattr(TensorProto, dtype), shape)],
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, [shape[0], weights.shape[1]])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(biases, "b")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def two_sided_onnx(path: Path, *, swapped: bool = False) -> Path:
    """Two inputs and two outputs: [N, 6] and [N, 4] → three scores, and two sums beside them. swapped: both in the
    other order, under other names, of a batch of 1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    weights = {name: random.normal(size=size).astype(np.float32) for name, size in {"wa": (6, 3), "wb": (4, 3)}.items()}
    weights["wc"] = random.normal(size=(4, 2)).astype(np.float32)
    a, b, scores, beside = ("x:1", "x:0", "y:1", "y:0") if swapped else ("a", "b", "scores", "beside")
    nodes = [
        helper.make_node("MatMul", [a, "wa"], ["left"]),
        helper.make_node("MatMul", [b, "wb"], ["right"]),
        helper.make_node("Add", ["left", "right"], [scores]),
        helper.make_node("MatMul", [b, "wc"], [beside]),
    ]
    sizes = {a: 6, b: 4, scores: 3, beside: 2}
    order = [(b, a), (beside, scores)] if swapped else [(a, b), (scores, beside)]
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 if swapped else "N", sizes[name]]) for name in names]
        for names in order
    ]
    constants = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "two", *sides, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def linear_tflite(
    path: Path, weights: Floats, biases: Floats, *, signatures: Sequence[str] = ("serving_default",)
) -> Path:
    """As Keras' converter writes a quantized net: int8 in and out, [1, 32, 32, 1], RESHAPE and FULLY_CONNECTED."""
    from pocketforge.device_calibration.tflite_graph import Graph
    from pocketforge.runtimes.tflite_objects import packed, unpacked

    graph = Graph("linear", "int8", 0)
    flat = graph.reshape(graph.input(1, 32, 32, 1), 1, weights.shape[0])
    model = unpacked(graph.finish(graph.fully_connected(flat, weights.shape[1])))
    tensors: dict[str, Any] = {each.name.decode().rpartition("_")[0]: each for each in model.subgraphs[0].tensors}
    scales = np.abs(weights).max(0) / 127
    step = tensors["input"].quantization.scale[0]
    _fill(model, tensors["weights"], np.rint(weights / scales).astype(np.int8).T, scales)
    _fill(model, tensors["bias"], np.rint(biases / (scales * step)).astype(np.int32), scales * step)
    first = model.signatureDefs[0]
    model.signatureDefs = [_renamed(first, key) for key in signatures]
    path.write_bytes(packed(model))
    return path


def _fill(model: Any, tensor: Any, values: NDArray[Any], scales: Floats) -> None:
    model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    tensor.quantization.scale = scales.astype(np.float32).tolist()


def _renamed(signature: Any, key: str) -> Any:
    import copy

    other = copy.copy(signature)
    other.signatureKey = key.encode()
    return other
