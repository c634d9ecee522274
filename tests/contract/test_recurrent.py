"""dynamic_int8 of recurrent layers: ONNX Runtime's own LSTM in int8; others refused with the way out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import file_answers
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from pocketforge.errors import ModelError  # noqa: E402
from pocketforge.measure.weights_check import check_weights  # noqa: E402
from pocketforge.metrics import compare  # noqa: E402
from pocketforge.model import load  # noqa: E402
from pocketforge.outcomes import files  # noqa: E402
from pocketforge.outcomes.annotate import Annotated  # noqa: E402
from pocketforge.outcomes.quantize import Quantized  # noqa: E402
from pocketforge.recipe.quantize import Override, Quantize  # noqa: E402
from pocketforge.registries import RUNTIMES  # noqa: E402
from pocketforge.results.checked import in_runtime  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.annotated import annotated_parts
    from pocketforge.quantization.recurrent import check_recurrent
    from pocketforge.runtimes import onnx
    from pocketforge.runtimes.base import ExportRequest
    from pocketforge.runtimes.describe import describe
    from pocketforge.stages.export import check_kernels

pytestmark = pytest.mark.filterwarnings("ignore")
DYNAMIC = Quantize("dynamic_int8").settled()
LSTM = "com.microsoft.DynamicQuantizeLSTM"


class Reader(nn.Module):
    """A recurrent layer over a sequence and a linear one; its states come in and go out where there are any."""

    def __init__(self, kind: Any = nn.LSTM, head: int = 4, **keys: Any) -> None:
        super().__init__()
        self.rnn = kind(8, 16, batch_first=True, **keys)
        self.fc = nn.Linear(16 * (1 + self.rnn.bidirectional), head)

    def forward(self, x, h=None, c=None):
        y, after = self.rnn(x, None if h is None else (h, c))
        y = self.fc(y[:, -1])
        return y if h is None else (y, *after)


def inputs(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def traced(net: nn.Module, example: tuple[Any, ...]) -> Any:
    return torch.export.export(net.eval(), example)


@dataclasses.dataclass(frozen=True)
class Made:
    quantized: Quantized
    graph: Any
    path: Path
    parity: float
    error: float


def made(net: nn.Module, example: tuple[Any, ...], out: Path, how: Quantize = DYNAMIC) -> Made:
    """The .onnx file of a net; parity: SQNR to the quantized graph; error: to the net, both of the first output."""
    graphs = pt2e.quantize_graph(traced(net, example), [each.numpy() for each in example], how)
    layers, outputs = pt2e.describe(graphs[1])
    quantized = Quantized("dynamic_int8", "", layers, outputs)
    files.write(out, quantized)
    names = tuple(f"in_{n}" for n in range(len(example)))
    given = tuple(f"out_{n}" for n in range(len(outputs)))
    folded, unfolded = (torch.export.export(graph, example) for graph in graphs)
    request = ExportRequest(folded, unfolded, example, names, given, "NCHW", "float32", None, scheme="dynamic_int8")
    with contextlib.redirect_stdout(io.StringIO()):
        onnx.export(request, out)
    path = out / "model.onnx"
    found = file_answers.answers("onnx", path, [each.numpy() for each in example])
    wanted, truth = (as_tuple(each(*example)) for each in (graphs[0], net))
    for one, other in zip(found, wanted, strict=True):
        assert sqnr_db(other.detach().numpy(), one) > 30
    to_graph, to_net = (sqnr_db(each[0].detach().numpy(), found[0]) for each in (wanted, truth))
    return Made(quantized, graphs[0], path, to_graph, to_net)


def sqnr_db(reference: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    return compare(found, reference).sqnr_db


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


NETS = {
    "both ways, two layers, no biases": (lambda: Reader(num_layers=2, bidirectional=True, bias=False), [(1, 5, 8)]),
    "states in and out": (Reader, [(1, 3, 8), (1, 1, 16), (1, 1, 16)]),
}


@pytest.mark.parametrize("name", NETS)
def test_an_lstm_in_dynamic_int8_is_onnx_runtime_s_own(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shapes = NETS[name]
    net = build()
    found = made(net, inputs(*shapes), tmp_path)
    layers = {layer.name: layer for layer in found.quantized.layers}
    matrices = sum(each.numel() for each in net.rnn.parameters() if each.dim() == 2)
    assert (layers["rnn"].scheme, layers["rnn"].weights, layers["fc"].scheme) == (
        "dynamic_int8",
        matrices,
        "dynamic_int8",
    )
    about = describe(found.path)
    assert about.ops.get(LSTM) == net.rnn.num_layers and "LSTM" not in about.ops, about.ops
    assert about.metadata["dynamically_quantized_ops"] == str(net.rnn.num_layers + 1)
    assert about.dtypes["uint8"] == matrices + net.fc.weight.numel()
    for file in (found.path, found.path.with_suffix(".ort")):
        (check,) = check_weights(file, "onnx", "dynamic_int8", tmp_path)
        assert check.passed and check.found.startswith("100.0%"), check
    assert found.parity > 38 and found.error > 33


@pytest.mark.parametrize("how", [{"per_channel": False}, {"weight_bits": 4}])
def test_levels_of_fewer_bits_or_of_one_scale_are_found_again(how: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = made(Reader(), inputs((1, 5, 8)), tmp_path, Quantize("dynamic_int8", **how).settled())
    assert describe(found.path).ops.get(LSTM) == 1 and found.parity > 38


def test_an_override_keeps_an_lstm_float(tmp_path: Path) -> None:
    how = Quantize("dynamic_int8", overrides=(Override("rnn", "fp32"),)).settled()
    found = made(Reader(), inputs((1, 5, 8)), tmp_path, how)
    assert found.quantized.left_float == ["lstm (rnn)"] and describe(found.path).ops.get("LSTM") == 1
    (check,) = check_weights(found.path, "onnx", "dynamic_int8", tmp_path)
    assert check.passed and "float: rnn; " in check.found


def test_runtimes_without_such_a_kernel_refuse_it_with_the_way_out() -> None:
    program = traced(Reader(), inputs((1, 5, 8)))
    graph = pt2e.rewritten_for_quantizer(program).graph
    schemes = pt2e.layer_schemes(graph, DYNAMIC)
    parts = annotated_parts(pt2e.prepare(program, DYNAMIC, schemes), schemes)
    layers, outputs = pt2e.describe(pt2e.quantize_graph(program, [np.zeros((1, 5, 8), np.float32)], DYNAMIC)[1])
    for runtime, info in RUNTIMES.items():
        told = in_runtime(Annotated(parts), runtime)
        if runtime == "onnx":
            assert (
                not told.refused and [part.numbers for part in told.parts if not part.operation] == ["dynamic_int8"] * 2
            )
            check_kernels(Quantized("dynamic_int8", "", layers, outputs), runtime)
            continue
        with pytest.raises(ModelError, match=r"would leave \d\d% of the weights in float: lstm \(rnn\); ") as refused:
            check_kernels(Quantized("dynamic_int8", "", layers, outputs), runtime)
        assert info.title in refused.value.message and 'runtime = "onnx"' in refused.value.hint
        assert "lstm (rnn)" in told.refused and told.hint == refused.value.hint


def test_projections_are_written_out_in_onnx_and_none_of_its_int8(tmp_path: Path) -> None:
    """ONNX's LSTM has none: the exporter's file of one ends in ONNX Runtime, of several it is no valid file."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.LSTM(8, 16, proj_size=5, num_layers=2, bidirectional=True, batch_first=True), _First())
    (x,) = example = inputs((1, 3, 8))
    program = traced(net, example)
    request = ExportRequest(program, program, example, ("x",), ("y",), "NCHW", "float32", None)
    with contextlib.redirect_stdout(io.StringIO()):
        onnx.export(request, tmp_path)
    (found,) = file_answers.answers("onnx", tmp_path / "model.onnx", [x.numpy()])
    assert sqnr_db(net(x).detach().numpy(), found) > 100
    with pytest.raises(ModelError, match=r"(?s)lstm of '0'.* no runtime") as no:
        check_recurrent(program, "dynamic_int8")
    assert no.value.hint.startswith("nn.LSTM (without proj_size: a linear layer behind it projects as well)")


class _First(nn.Module):
    def forward(self, given):
        return given[0]


class Packed(nn.Module):
    """As Reader, of sequences of several lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][-1]

    def unpacked(self, x, lengths):
        """The way out that the refusal names."""
        return self.rnn(x)[0][torch.arange(len(x)), lengths - 1]


def test_packed_sequences_are_refused_by_name_with_the_way_out() -> None:
    torch.manual_seed(0)
    net, lengths = Packed().eval(), torch.tensor([2, 4, 1])
    (x,) = inputs((3, 4, 8))
    with pytest.raises(ModelError, match=r"cannot be traced with input .*: it packs sequences by their lengths") as no:
        load.trace(net, (x[:1], lengths[:1]))
    assert "test_recurrent.py:" in no.value.message and "y[torch.arange(len(y)), lengths - 1]" in no.value.hint
    assert torch.allclose(net(x, lengths), net.unpacked(x, lengths), atol=1e-6)


def test_where_it_is_the_smaller_part_it_stays_float_in_other_runtimes() -> None:
    program = traced(Reader(head=600), inputs((1, 5, 8)))
    graphs = pt2e.quantize_graph(program, [np.zeros((1, 5, 8), np.float32)], DYNAMIC)
    quantized = Quantized("dynamic_int8", "", *pt2e.describe(graphs[1]))
    check_kernels(quantized, "executorch")
    assert quantized.in_runtime(RUNTIMES["executorch"].dynamic_layers).left_float == ["lstm (rnn)"]


def test_a_gru_is_refused_by_name_with_the_way_out() -> None:
    program = traced(Reader(nn.GRU), inputs((1, 5, 8)))
    with pytest.raises(
        ModelError, match=r"(?s)would leave \d\d% of the weights in float: gru of 'rnn'.* no runtime"
    ) as no:
        check_recurrent(program, "dynamic_int8")
    assert no.value.hint.startswith("nn.LSTM (without proj_size") and '"fp16"' in no.value.hint
