"""`describe` on real files of every format, exported here from one small network."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pocketforge.errors import ModelError
from pocketforge.runtimes.describe import Description, describe, to_json

CHANNELS, CLASSES = 8, 10
# Convolution with its batch norm folded to a bias, a second convolution, a linear layer.
PARAMETERS = (CHANNELS * 3 * 9 + CHANNELS) + (CHANNELS * CHANNELS * 9 + CHANNELS) + (CLASSES * CHANNELS + CLASSES)
NAMES = ("fp32.pte", "int8.pte", "fp32.tflite", "int8.tflite", "fp32.onnx", "int8.onnx", "fp32.ort", "int8.ort")
LABELS = "zero,one,two"


def _network():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(CHANNELS)
            self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
            self.head = nn.Linear(CHANNELS, CLASSES)

        def forward(self, x):
            x = torch.relu(self.norm(self.first(x)))
            return self.head(torch.relu(self.second(x)).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    for name, buffer in net.norm.named_buffers():
        # Fresh statistics fold to a bias of zeros, which exporters drop or share.
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5 if name == "running_var" else -0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("describe")
    paths = {name: folder / name for name in NAMES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters deprecate parts of each other
        _export(paths)
    return paths


@pytest.fixture(scope="module")
def described(files: dict[str, Path]) -> dict[str, Description]:
    return {name: describe(path) for name, path in files.items()}


def _export(paths: dict[str, Path]) -> None:
    import copy

    import litert_torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer
    from litert_torch.quantize.pt2e_quantizer import get_symmetric_quantization_config as litert_config
    from litert_torch.quantize.quant_config import QuantConfig
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    net, sample = _network(), (torch.randn(1, 3, 16, 16),)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(copy.deepcopy(net), sample).module(), quantizer)
    with torch.no_grad():
        for _ in range(8):
            prepared(torch.randn(1, 3, 16, 16))
    unfolded = convert_pt2e(copy.deepcopy(prepared), fold_quantize=False)
    models = {"fp32": net, "int8": convert_pt2e(prepared)}

    for kind, model in models.items():
        edge = to_edge_transform_and_lower(
            torch.export.export(model, sample),
            partitioner=[XnnpackPartitioner()],
            constant_methods={"get_labels": LABELS},
        )
        paths[f"{kind}.pte"].write_bytes(edge.to_executorch().buffer)
        program = torch.onnx.export(model, sample, dynamo=True, input_names=["image"], verbose=False)
        program.save(str(paths[f"{kind}.onnx"]))
        # For ARM, as a phone's file is made: without a platform it holds what suits the processor that made it, with
        # AVX-512 float weights padded to blocks of 16 channels.
        convert_onnx_models_to_ort(
            paths[f"{kind}.onnx"], paths[f"{kind}.ort"].parent, [OptimizationStyle.Fixed], target_platform="arm"
        )
    litert_torch.convert(net, sample).export(str(paths["fp32.tflite"]))
    config = QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(litert_config(is_per_channel=True)))
    litert_torch.convert(unfolded, sample, quant_config=config).export(str(paths["int8.tflite"]))


@pytest.mark.parametrize("name", NAMES)
def test_identity_of_the_file(name: str, files: dict[str, Path], described: dict[str, Description]) -> None:
    data, found = files[name].read_bytes(), described[name]
    assert (found.name, found.format) == (name, name.rpartition(".")[2])
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.size_bytes == len(data)
    assert found.gzip_bytes == len(gzip.compress(data, compresslevel=9, mtime=0))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_network(name: str, described: dict[str, Description]) -> None:
    found = described[name]
    network = _network()
    batch_norm = sum(parameter.numel() for parameter in network.norm.parameters())
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total - batch_norm + CHANNELS == PARAMETERS  # the fold leaves one bias of the four vectors
    assert found.parameters == PARAMETERS == sum(weight.parameters for weight in found.weights)
    assert sum(found.dtypes.values()) == sum(weight.size_bytes for weight in found.weights)
    assert sum(found.dtypes.values()) < found.size_bytes
    assert all(weight.layer for weight in found.weights)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_of_weights(name: str, described: dict[str, Description]) -> None:
    dtypes = described[name].dtypes
    matrices = PARAMETERS - 2 * CHANNELS - CLASSES
    if name.startswith("fp32"):
        assert dtypes == {"float32": 4 * PARAMETERS}
    else:
        assert dtypes["int8"] == matrices
        assert sum(dtypes.values()) == matrices + 4 * (2 * CHANNELS + CLASSES)  # biases have four bytes


@pytest.mark.parametrize(
    ("name", "operator", "count"),
    [
        ("fp32.pte", "Conv2d", 2),
        ("int8.pte", "Conv2d", 2),
        ("int8.pte", "FullyConnected", 1),
        ("fp32.tflite", "CONV_2D", 2),
        ("int8.tflite", "CONV_2D", 2),
        ("int8.tflite", "FULLY_CONNECTED", 1),
        ("fp32.onnx", "Conv", 2),
        ("int8.onnx", "Conv", 2),
        ("int8.onnx", "Gemm", 1),
        ("int8.ort", "QLinearConv", 2),
    ],
)
def test_operators_by_count(name: str, operator: str, count: int, described: dict[str, Description]) -> None:
    ops = described[name].ops
    assert sum(n for op, n in ops.items() if op.rpartition(".")[2] == operator) == count, ops
    assert list(ops.values()) == sorted(ops.values(), reverse=True)


def test_inputs_and_outputs(described: dict[str, Description]) -> None:
    for name, found in described.items():
        (image,), (scores,) = found.inputs, found.outputs
        assert (image.shape, scores.shape) == ((1, 3, 16, 16), (1, CLASSES)), name
        quantized = name == "int8.tflite"
        assert image.dtype == scores.dtype == ("int8" if quantized else "float32"), name
        assert (image.quantization is not None) == quantized, name
    assert described["int8.onnx"].inputs[0].name == described["int8.ort"].inputs[0].name == "image"


def test_quantization_of_an_input_is_what_the_interpreter_says(
    files: dict[str, Path], described: dict[str, Description]
) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(files["int8.tflite"]))
    scale, zero_point = interpreter.get_input_details()[0]["quantization"]
    quantization = described["int8.tflite"].inputs[0].quantization
    assert quantization is not None
    assert quantization.scales == pytest.approx((scale,))
    assert quantization.zero_points == (zero_point,)
    assert quantization.axis is None


@pytest.mark.parametrize("name", ["fp32.pte", "int8.pte"])
def test_delegation(name: str, described: dict[str, Description]) -> None:
    found = described[name]
    assert {delegate.name for delegate in found.delegation} == {"XnnpackBackend"}
    inside = sum(sum(delegate.ops.values()) for delegate in found.delegation)
    assert inside + sum(found.undelegated_ops.values()) == sum(found.ops.values())
    assert found.metadata["get_labels"] == LABELS
    assert found.metadata["methods"] == "forward"


def test_what_xnnpack_leaves_out_is_named(described: dict[str, Description]) -> None:
    assert described["int8.pte"].undelegated_ops == {"aten::mean.out": 1}
    assert len(described["int8.pte"].delegation) == 2  # the mean splits the graph


def test_formats_that_delegate_at_load_say_nothing_of_it(described: dict[str, Description]) -> None:
    for name, found in described.items():
        if not name.endswith(".pte"):
            assert (found.delegation, found.undelegated_ops) == ((), {}), name


def test_opsets_and_domains(described: dict[str, Description]) -> None:
    assert "ai.onnx " in described["fp32.onnx"].metadata["opsets"]
    assert "com.microsoft 1" in described["int8.ort"].metadata["opsets"]


def test_json_is_plain(described: dict[str, Description]) -> None:
    for name, found in described.items():
        plain: dict[str, Any] = to_json(found)
        assert json.loads(json.dumps(plain)) == plain
        assert plain["weights"][0]["shape"] == list(found.weights[0].shape), name


@pytest.mark.parametrize("name", NAMES)
def test_extension_does_not_matter(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(files[name].read_bytes())
    assert describe(renamed).format == name.rpartition(".")[2]


def test_nested_graphs_sparse_weights_and_integer_inputs_of_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto as Kind
    from onnx import helper, numpy_helper

    def constant(name: str, values: object, dtype: str) -> object:
        return numpy_helper.from_array(np.array(values, dtype), name)

    sparse = helper.make_sparse_tensor(constant("w", [1.0, 2.0], "float32"), constant("at", [0, 5], "int64"), [2, 4])
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["y", f"by_{name}"], [f"out_{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"out_{name}", Kind.FLOAT, ["n", 2])],
            [constant(f"by_{name}", [1.0, 3.0], "float32")],
        )
        for name in ("then", "else")
    }
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
            helper.make_node("Transpose", ["w"], ["wt"]),
            helper.make_node("MatMul", ["real", "wt"], ["y"]),
            helper.make_node("If", ["choice"], ["out"], **branches),
        ],
        "main",
        [
            helper.make_tensor_value_info("x", Kind.INT8, ["n", 4]),
            helper.make_tensor_value_info("choice", Kind.BOOL, []),
        ],
        [helper.make_tensor_value_info("out", Kind.FLOAT, ["n", 2])],
        [constant("scale", 0.5, "float32"), constant("zero", -3, "int8")],
        sparse_initializer=[sparse],
    )
    path = tmp_path / "nested.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    found = describe(path)
    assert found.ops == {"Mul": 2, "DequantizeLinear": 1, "If": 1, "MatMul": 1, "Transpose": 1}
    assert {weight.name: (weight.parameters, weight.size_bytes, weight.layer) for weight in found.weights} == {
        "w": (8, 2 * 4 + 2 * 8, "MatMul_0"),
        "by_else": (2, 8, "Mul_0"),  # make_node stores attributes by name
        "by_then": (2, 8, "Mul_1"),
    }
    quantization = found.inputs[0].quantization
    assert found.inputs[0].shape == ("n", 4)
    assert quantization is not None
    assert (quantization.scales, quantization.zero_points, quantization.axis) == ((0.5,), (-3,), None)


def _fuzz(path: Path, target: Path, damage: Callable[[random.Random, bytes], bytes], rounds: int) -> list[str]:
    """Describe damaged copies; any exception but ModelError ends the test. Return the messages."""
    source, messages = random.Random(path.name), []
    data = path.read_bytes()
    for _ in range(rounds):
        target.write_bytes(damage(source, data))
        try:
            describe(target)
        except ModelError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize("name", NAMES)
def test_truncated_files(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    rounds = 40

    def cut(source: random.Random, data: bytes) -> bytes:
        return data[: source.randrange(1, len(data) - 8)]

    messages = _fuzz(files[name], tmp_path / name, cut, rounds)
    assert len(messages) == rounds
    assert all("wanted" in message and "found" in message and "hint: " in message for message in messages)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    def flip(source: random.Random, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(source.choice((1, 3, 30))):
            # Half of the flips hit the first tenth, where the tables and not the weights are.
            damaged[source.randrange(len(data) // source.choice((1, 10)))] = source.randrange(256)
        return bytes(damaged)

    assert all("hint: " in message for message in _fuzz(files[name], tmp_path / name, flip, 60))


def test_no_toolchain_is_imported(files: dict[str, Path]) -> None:
    code = (
        "import sys, pathlib; from pocketforge.runtimes.describe import describe\n"
        "for path in sys.argv[1:]: describe(pathlib.Path(path))\n"
        "print([name for name in ('torch', 'executorch.exir', 'litert_torch', 'onnxruntime') if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code, *(str(path) for path in files.values())]
    root = Path(__file__).parents[2]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, cwd=root).stdout == "[]\n"
