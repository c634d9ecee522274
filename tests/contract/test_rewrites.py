"""What folds, quantizes and exports a traced graph computes the model's own function, whoever reads its weights."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pocketforge.errors import StageFailed, first_line  # noqa: E402
from pocketforge.recipe.quantize import Quantize  # noqa: E402
from pocketforge.registries import RUNTIMES  # noqa: E402
from pocketforge.rewrites import centred, passes  # noqa: E402
from pocketforge.rewrites.graph import op_name  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.fold import fold_batch_norm

pytestmark = pytest.mark.filterwarnings("ignore")
READERS = (passes.QUANTIZER, passes.FOLDER, passes.EXECUTORCH, passes.TFLITE, passes.ONNX)
SAMPLES = 4


class Net(nn.Module):
    """Named layers and a function of them."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.given = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs):
        return self.given(self, *inputs)


def conv(inputs: int = 3, outputs: int = 8, **keys: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **keys)


def residual(m, x):
    x = m.conv1(x)
    x = x + m.conv2(torch.relu(m.bn1(x)))
    return m.fc(x.mean((2, 3)))


def twice(m, x):
    x = m.first(x)
    for _ in range(2):
        x = torch.relu(m.norm(m.conv(x)))
    return x.mean((2, 3))


def siamese(m, x):
    halves = [m.norm(m.conv(part)).relu().flatten(1) for part in (x, 0.5 * x.flip(2))]
    return torch.cat([m.fc(half) for half in halves], 1)


def written_in_parts(m, x):
    y = torch.zeros_like(x)
    y[:, 1:] = m.first(x)[:, 1:]
    y[..., ::2] = 3.0
    seen = y.flip(1)
    y[:, :, 0] += 1
    view = x.abs()[:, :2]
    view[:, :1, 2:4] = y[:, :1, 2:4]
    return m.second(y) + seen, view


def copies_and_windows(m, x):
    y = m.conv(x)
    copy, kept = y.clone(), y.clone()
    kept[:, 0] = 1.0  # nothing else may see this
    # In one piece: without the copy it has no such view.
    rows = y.transpose(2, 3).contiguous().view(x.shape[0], -1, 4)
    windows = copy.unfold(2, 3, 2), copy.unfold(1, 2, 5), F.dropout(copy, 0.5, False).unfold(-1, 8, 1)
    return copy.relu() + y, kept, rows, *windows


def linear_twice(m, x):
    y = m.fc(x.mean((2, 3)))
    return torch.relu(m.norm(y)) + m.fc(y)


def norms_in_a_row(m, x):
    first = m.one(m.conv(x))
    lines = m.three(m.fc(first.mean((2, 3))))
    return m.two(first).relu() + first, m.four(lines) + lines


def unlike_poolings(m, x):
    y = m.conv(x)
    return (
        F.max_pool2d(y[..., :5], 3, 2, ceil_mode=True),
        F.max_pool2d(y, 3, (1, 1), (0, 1)),
        F.max_pool2d(y, (2, 3), (3, 2), (1, 0), (1, 2), ceil_mode=True),
        # A window that begins behind the map: torch drops it, along both axes or one.
        F.avg_pool2d(y, 2, 3, 1, ceil_mode=True),
        F.avg_pool2d(y, 2, (3, 2), (1, 0), ceil_mode=True),
        F.avg_pool2d(y[..., :7], 2, (3, 2), 1, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(y[..., :7], 2, (3, 2), 1, ceil_mode=True, divisor_override=3),
        F.avg_pool2d(y, 3, (3, 1), (0, 1), count_include_pad=False),
    )


# Each in few lines: what is read twice, or in a form that one of the toolchains takes wrongly.
def gathered_and_expanded(m, x):
    y = m.a(x)
    order, few = torch.tensor([2, 0, 1, 3]).view(1, 4, 1, 1), torch.tensor([5, 0, 3]).view(1, 1, 3, 1)
    return (
        m.b(torch.gather(y, 1, order.expand(1, 4, 8, 8))[:, :2]),
        m.b(torch.gather(y, 2, few.expand(1, 2, 3, 8))),
        m.b(y[:, :, :1].expand(-1, -1, 4, -1)[:, :2]),
        m.b(y[:, :1].expand(-1, 2, -1, -1)),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "output read twice": lambda: Net(residual, conv1=conv(), bn1=nn.BatchNorm2d(8), conv2=conv(8), fc=nn.Linear(8, 4)),
    "transposed output read twice": lambda: Net(
        residual, conv1=nn.ConvTranspose2d(3, 8, 2, 2), bn1=nn.BatchNorm2d(8), conv2=conv(8), fc=nn.Linear(8, 4)
    ),
    "two norms of one convolution": lambda: Net(
        lambda m, x: (m.one(m.conv(x)) + m.two(m.conv(0.5 * x))).relu(),
        conv=conv(),
        one=nn.BatchNorm2d(8),
        two=nn.BatchNorm2d(8),
    ),
    "norms in a row, the first read twice": lambda: Net(
        norms_in_a_row,
        conv=conv(),
        one=nn.BatchNorm2d(8),
        two=nn.BatchNorm2d(8),
        fc=nn.Linear(8, 4),
        three=nn.BatchNorm1d(4),
        four=nn.BatchNorm1d(4),
    ),
    "one value as several outputs": lambda: Net(
        lambda m, x: (lambda y: (y, F.dropout(y, 0.5, False), y.clone(), y.relu()))(m.conv(x)), conv=conv()
    ),
    "what is written into a part": lambda: Net(written_in_parts, first=conv(3, 3), second=conv(3, 3)),
    "copies and windows": lambda: Net(copies_and_windows, conv=conv()),
    "local response norm": lambda: nn.Sequential(conv(), nn.LocalResponseNorm(3)),
    "paddings that cut": lambda: Net(
        lambda m, x: F.pad(F.pad(m.conv(x), (-1, 1, 0, -2)), (-1, -1, 2, 0, 0, 1), value=0.5), conv=conv()
    ),
    "a block called twice": lambda: Net(twice, first=conv(), conv=conv(8), norm=nn.BatchNorm2d(8)),
    "a shared tower": lambda: Net(siamese, conv=conv(), norm=nn.BatchNorm2d(8), fc=nn.Linear(8 * 64, 4)),
    "a weight read elsewhere": lambda: Net(
        lambda m, x: m.norm(m.conv(x)) * m.conv.weight.abs().mean(), conv=conv(), norm=nn.BatchNorm2d(8)
    ),
    "a linear layer read twice": lambda: Net(linear_twice, fc=nn.Linear(3, 3), norm=nn.BatchNorm1d(3)),
    "norms without affine or statistics": lambda: nn.Sequential(
        conv(), nn.BatchNorm2d(8, affine=False), conv(8), nn.BatchNorm2d(8, track_running_stats=False)
    ),
    "norms of any form": lambda: nn.Sequential(
        conv(), nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.LayerNorm((8, 8)), nn.InstanceNorm2d(8, affine=True)
    ),
    "names that begin with digits": lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU()),
    "a computed weight": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(conv()), nn.BatchNorm2d(8), nn.ReLU()
    ),
    "grouped transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6)
    ),
    "depthwise transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 10, 1), nn.ConvTranspose2d(10, 10, (4, 3), (2, 3), (1, 2), (0, 1), groups=10), nn.BatchNorm2d(10)
    ),
    "depthwise transposed, cut": lambda: (
        nn.ConvTranspose2d(3, 3, 2, 1, 1).requires_grad_(False)
        and nn.Sequential(nn.Conv2d(3, 9, 1), nn.ConvTranspose2d(9, 18, 2, 2, 1, groups=9, bias=False))
    ),
    "padded transposed": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), nn.ConvTranspose2d(4, 4, 3, 2, 1, dilation=2)
    ),
    "output_padding beyond the kernel": lambda: nn.ConvTranspose2d(3, 4, 2, 3, output_padding=(2, 1)),
    "one-dimensional": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 4, 4, padding="same", dilation=3), nn.PReLU(), nn.ConvTranspose1d(4, 4, 3, 2, 1)
    ),
    "one-dimensional transposed, with a norm": lambda: nn.Sequential(
        nn.Flatten(2), nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4), nn.Unflatten(2, (6, 11)), nn.PixelShuffle(2)
    ),
    "alpha": lambda: Net(
        lambda m, x: torch.add(m.a(x), m.b(x), alpha=4) - torch.sub(m.b(x), 1.5, alpha=2), a=conv(), b=conv()
    ),
    "poolings": lambda: Net(
        lambda m, x: (
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
            F.avg_pool2d(x, (3, 2), 3, (1, 0), True, False),
            F.avg_pool2d(x, 3, 1, 1, divisor_override=5),
            F.max_pool2d(x, 2),
        )
    ),
    "poolings of unlike axes": lambda: Net(unlike_poolings, conv=conv(3, 4)),
    "gathered and expanded": lambda: Net(gathered_and_expanded, a=conv(3, 4), b=conv(2, 3)),
    "nearest": lambda: Net(
        lambda m, x: (
            F.interpolate(x, size=(5, 7)),
            F.interpolate(x, scale_factor=1.3),
            F.interpolate(x, scale_factor=2),
        )
    ),
    "PReLU on 2-D": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.PReLU(6), nn.Linear(6, 3)),
}


def made(name: str) -> nn.Module:
    """As after training: norms' statistics and factors differ from channel to channel."""
    torch.manual_seed(0)
    net = NETS[name]().eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low in ((module.running_var, 0.5), (module.weight, 0.5), (module.bias, -0.5)):
                if value is not None:
                    nn.init.uniform_(value, low, low + 1)
            if module.running_mean is not None:
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
    return net


def over_a_view(m, x):
    y = m.conv(x)
    view, copy = y.flatten(2), y.clone()
    view += 1.0
    return 2 * copy, y


def behind_a_dropout(m, x):
    y = m.conv(x)
    copy, itself = y.clone(), F.dropout(y, 0.5, False)  # in evaluation its input
    itself.relu_()
    return copy.unfold(2, 3, 2), y, 2 * copy


def into_windows(m, x):
    y = m.conv(x)
    y.unfold(2, 2, 2)[..., 0].add_(1.0)
    return y.relu()


def under_a_view_of_a_view(m, x):
    y = m.conv(x)
    rows = y.flatten(2).transpose(1, 2)
    y[:, :1] = 5.0
    return 2 * rows, y


def into_what_a_dropout_gives(m, x):
    y = m.conv(x)
    F.dropout(y, 0.5, False)[:, :1] = 5.0
    return 2 * y


WRITES = (over_a_view, behind_a_dropout, into_windows, under_a_view_of_a_view, into_what_a_dropout_gives)


@pytest.mark.parametrize("forward", WRITES)
def test_what_is_written_into_a_value_is_seen_by_all_that_share_its_memory_and_by_no_copy(forward: Any) -> None:
    torch.manual_seed(0)
    net, example = Net(forward, conv=conv()).eval(), (torch.from_numpy(images()[:1]),)
    program = torch.export.export(net, example)
    wanted = answers(net, images())
    for reader in passes.EVERYONE:
        module: Any = program.module()
        passes.rewrite(module, reader, example)
        assert least_db(answers(module, images()), wanted) > passes.SAME_DB, reader


def test_copies_go_where_all_that_is_written_comes_before() -> None:
    net = Net(lambda m, x: (lambda y: (y, m.conv(y[:, :3]), y.relu()))(m.conv(x).relu_().clone()), conv=conv())
    module: Any = torch.export.export(net.eval(), (torch.from_numpy(images()[:1]),)).module()
    passes.rewrite(module, passes.QUANTIZER)
    assert "clone" not in {op_name(node) for node in module.graph.nodes}


def test_a_rewrite_for_the_quantizer_that_changes_the_function_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(editor: Any) -> None:
        for node in editor.nodes():
            if op_name(node) == "relu":
                editor.replace(node, editor.call(torch.ops.aten.abs.default, node.args[0], like=node))

    monkeypatch.setattr(passes, "REWRITES", (passes.Rewrite(wrong, (passes.QUANTIZER,)),))
    program = torch.export.export(nn.Sequential(conv(), nn.ReLU()).eval(), (torch.from_numpy(images()[:1]),))
    with pytest.raises(StageFailed, match="something else after its rewrites"):
        pt2e.quantize_graph(program, [images()], Quantize("static_int8", calibration="minmax"))


@pytest.mark.parametrize("forward", [lambda m, x: m.conv(x).relu(), lambda m, x: m.conv(x.relu())])
def test_an_input_that_int8_layers_alone_read_has_no_products_before_it(forward: Any) -> None:
    """What torch.export puts in to check inputs was taken for a float reader: two float products in every file."""
    example = (torch.from_numpy(images()[:1]),)
    program = torch.export.export(Net(forward, conv=conv()).eval(), example)
    _, unfolded = pt2e.quantize_graph(program, [images()], Quantize("static_int8", calibration="minmax"))
    program = torch.export.export(unfolded, example)
    for reader in (passes.TFLITE, passes.TFLITE_FLOAT_INPUTS):
        program = passes.rewritten(program, reader)
    assert "mul" not in {op_name(node) for node in program.graph.nodes}


def images(dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(SAMPLES, 3, 8, 8)).astype(dtype)


def answers(net: Any, samples: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        rows = [net(torch.from_numpy(samples[i : i + 1])) for i in range(len(samples))]
    rows = [row if isinstance(row, tuple | list) else (row,) for row in rows]
    return [np.concatenate([np.asarray(part) for part in column]) for column in zip(*rows, strict=True)]


def least_db(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    assert [f.shape for f in found] == [w.shape for w in wanted]
    pairs = [(f.astype(np.float64), w.astype(np.float64)) for f, w in zip(found, wanted, strict=True)]
    return min(10 * np.log10((w**2).sum() / max(((f - w) ** 2).sum(), 1e-300)) for f, w in pairs)


class SideBySide(nn.Module):
    """Several nets of one input as one: a trace, a fold and a list of rewrites for all of them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(made(name) for name in names)

    def forward(self, x):
        found = [net(x) for net in self.nets]
        return tuple(part for each in found for part in (each if isinstance(each, tuple) else (each,)))


@pytest.mark.parametrize("names", [list(NETS)[first::3] for first in range(3)], ids=lambda names: f"{names[0]} …")
def test_every_rewrite_keeps_the_function(names):
    net = SideBySide(names).double().eval()
    samples = images(np.float64)[:2]
    outputs = [name for name, own in zip(names, net.nets, strict=True)
               for _ in answers(own, samples[:1])]  # fmt: skip
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    wanted = answers(net, samples)

    def wrong(graph: Any, least: float = 120) -> set[str]:
        pairs = zip(outputs, answers(graph, samples), wanted, strict=True)
        return {name for name, found, want in pairs if least_db([found], [want]) < least}

    assert not wrong(fold_batch_norm(program))
    for reader in READERS:
        module: Any = program.module()
        passes.rewrite(module, reader)
        assert not wrong(module), reader
        assert not passes.rewrite(module, reader), f"{reader}: made twice"
    assert not wrong(program.module(), 250), "the program is left as it was"


def test_a_reader_that_the_list_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="found 'nobody'"):
        passes.rewrite(torch.fx.GraphModule({}, torch.fx.Graph()), "nobody")


def test_the_prepared_graph_is_the_model_and_each_weight_has_one_reader():
    net, samples = SideBySide(list(NETS)[::4]).eval(), images()
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    prepared = pt2e.prepare(program, Quantize("static_int8", calibration="minmax"))
    assert least_db(answers(prepared, samples[:2]), answers(net, samples[:2])) >= 100
    read: dict[str, int] = {}
    for node in prepared.graph.nodes:
        if node.op == "get_attr":
            read[node.target] = read.get(node.target, 0) + len(node.users)
    weights = {n: c for n, c in read.items() if n.endswith(("weight", "bias"))}
    assert all(count == 1 for count in weights.values()), weights


def test_layers_that_are_called_twice_are_int_8_in_both_calls():
    net, samples = made("a shared tower"), images()
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    _, unfolded = pt2e.quantize_graph(program, [samples], Quantize("static_int8", calibration="minmax"))
    layers, _ = pt2e.describe(unfolded)
    assert [layer.label for layer in layers] == ["conv2d (conv)", "conv2d (conv)", "linear (fc)", "linear (fc)"]
    assert {layer.scheme for layer in layers} == {"static_int8"}
    assert least_db(answers(unfolded, samples), answers(net, samples)) >= 30


def test_a_maximum_s_inputs_have_the_same_levels():
    """With a scale each, litert's converter gives one's to both: 12 steps off, or it fails in one dimension."""
    net, samples = Net(lambda m, x: torch.maximum(m.conv(x), 3 * x), conv=conv(3, 3)).eval(), images()
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    folded, _ = pt2e.quantize_graph(program, [samples], Quantize("static_int8", calibration="minmax"))
    node: Any = next(n for n in folded.graph.nodes if op_name(n) == "maximum")
    levels = {each.args[1:3] for each in (*node.args, *node.users)}
    assert len(levels) == 1
    assert least_db(answers(folded, samples), answers(net, samples)) >= 30


def test_what_is_written_into_a_part_is_read_by_int8_layers():
    """The quantizer took the values of before: .3 dB."""
    torch.manual_seed(0)
    net, samples = NETS["what is written into a part"]().eval(), images()
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    folded, _ = pt2e.quantize_graph(program, [samples], Quantize("static_int8", calibration="minmax"))
    assert least_db(answers(folded, samples), answers(net, samples)) >= 25


def test_integers_are_not_observed():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

        def forward(self, ids):
            both = torch.cat([ids, ids + 1], 1).reshape(1, -1)[:, :6]
            return self.head(self.table(both) * 2).mean(1)

    torch.manual_seed(0)
    ids = np.random.default_rng(0).integers(0, 19, (SAMPLES, 5))
    net = Tokens().eval()
    program = torch.export.export(net, (torch.from_numpy(ids[:1]),))
    folded, _ = pt2e.quantize_graph(program, [ids], Quantize("static_int8", calibration="minmax"))
    assert least_db(answers(folded, ids), answers(net, ids)) >= 30


def test_an_attention_s_mask_takes_no_levels_from_its_scores():
    def forward(m, x):
        tokens = m.fc(x.flatten(2).transpose(1, 2))
        hidden = (1.0 - (x.flatten(2)[:, :1] < 0.5).to(x.dtype)) * torch.finfo(x.dtype).min
        return torch.softmax(tokens @ tokens.transpose(1, 2) + hidden, -1) @ tokens

    torch.manual_seed(0)
    net, samples = Net(forward, fc=nn.Linear(3, 8)).eval(), images()
    program = torch.export.export(net, (torch.from_numpy(samples[:1]),))
    folded, _ = pt2e.quantize_graph(program, [samples], Quantize("static_int8", calibration="minmax"))
    assert least_db(answers(folded, samples), answers(net, samples)) >= 30


class Files:
    """Real files of a net in a runtime, run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def export(self, runtime: str, net: nn.Module, samples: np.ndarray, scheme: str = "fp32"):
        """Outputs of the file, of the graph that it was made from, of the model; and the exporter's result."""
        from pocketforge.runtimes.base import ExportRequest

        example = (torch.from_numpy(samples[:1]),)
        program, unfolded = torch.export.export(net.eval(), example), None
        graph: Any = net
        if scheme in ("static_int8", "dynamic_int8"):
            how = Quantize("static_int8", calibration="minmax") if scheme == "static_int8" else Quantize("dynamic_int8")
            pair = pt2e.quantize_graph(program, [samples], how)
            graph = pair[0]
            # Each converter reads one of the two, TFLite's the unfolded one.
            program = unfolded = torch.export.export(pair[runtime == "tflite"], example)
        wanted = answers(graph, samples)
        names = tuple(f"output_{n}" for n in range(len(wanted)))
        request = ExportRequest(program, unfolded, example, ("input",), names, "NCHW", "float32", None, scheme=scheme)
        out = self.folder / f"{runtime}_{scheme}_{len(list(self.folder.iterdir()))}"
        out.mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            result = importlib.import_module(RUNTIMES[runtime].module).export(request, out)
        path = out / result.files["model"]
        session = importlib.import_module(f"pocketforge.runtimes.sessions.{RUNTIMES[runtime].session}")
        opened = session.open_session(path, 1)
        rows = [opened.run([samples[i : i + 1]]) for i in range(len(samples))]
        found = [np.concatenate([np.array(part) for part in column]) for column in zip(*rows, strict=True)]
        return found, wanted, answers(net, samples), path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"))


def test_onnx_runtime_s_average_pool_is_right_to_the_edge(files):
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, 6), nn.ReLU(), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(6, 4, 1))
    samples = np.random.default_rng(0).normal(size=(2, 3, 20, 20)).astype(np.float32)
    (found,), (wanted,), _, _ = files.export("onnx", net, samples, "static_int8")
    step = np.diff(np.unique(wanted)).min()
    assert np.abs(found - wanted).max() <= 2.01 * step
    assert np.abs(found - wanted)[:, :, -1].max() <= 2.01 * step


def test_onnx_has_a_zero_in_int8_whose_zero_point_is_the_same_constant(files):
    """A sum that begins with 0, as skip connections are added up: one name for two constants, and no file."""
    net = Net(lambda m, x: m.last(0 + m.a(x) + m.b(x)), a=conv(), b=conv(), last=conv(8, 4))
    found, wanted, _, _ = files.export("onnx", net, images(), "static_int8")
    assert np.abs(found[0] - wanted[0]).max() <= 2.01 * np.diff(np.unique(wanted[0])).min()


def attentions_without_heads(m, x):
    attend, rows = F.scaled_dot_product_attention, x.flatten(2)
    shared, own = torch.zeros(3, 3).tril(), rows[:, :, :3].sin()
    return (
        m.line(attend(m.line(rows), rows, rows, scale=0.3)),
        attend(rows, rows.cos(), rows, is_causal=True),
        attend(rows, rows.cos(), rows, attn_mask=shared),
        attend(rows, rows.cos(), rows, attn_mask=own),
    )


@pytest.mark.parametrize("scheme", ["fp32", "static_int8"])
def test_onnx_has_attention_without_heads(scheme, files):
    """No file before: torch's exporter takes [batch, heads, tokens, channels] alone."""
    torch.manual_seed(0)
    net = Net(attentions_without_heads, line=nn.Linear(64, 64))
    found, wanted, eager, _ = files.export("onnx", net, images(), scheme)
    assert least_db(found, wanted) >= (100 if scheme == "fp32" else 40)
    assert least_db(found, eager) >= (100 if scheme == "fp32" else 25)


def test_tflite_norms_of_few_values_lose_no_digits(files):
    """Of two, chance brings some near each other: 100 dB to double precision before, where torch has 105."""
    pairs = nn.LayerNorm(2)
    samples = np.random.default_rng(1).normal(size=(6, 4, 64, 2)).astype(np.float32)
    samples[..., 1] = samples[..., 0] + 0.02 * samples[..., 1]
    (found,), (wanted,), _, _ = files.export("tflite", pairs, samples, "fp32")
    exact = F.layer_norm(torch.from_numpy(samples).double(), (2,)).numpy()
    assert least_db([found], [exact]) >= 120
    assert least_db([wanted], [exact]) >= 100


def test_norms_are_centred_where_the_example_s_mean_is_large_beside_its_spread(monkeypatch):
    net = Net(
        lambda m, x: m.layer(x.flatten(2)) + m.group(x).flatten(2), layer=nn.LayerNorm(64), group=nn.GroupNorm(1, 3)
    )
    means = {}
    for mean in (0.0, 1.5, 3.0, 1e20):  # the last has no spread in float32
        example = (torch.from_numpy(images()[:1]) + mean,)
        module: Any = torch.export.export(net.eval(), example).module()
        passes.rewrite(module, passes.EXECUTORCH, example)
        means[mean] = sum(op_name(node) == "mean" for node in module.graph.nodes)
    assert means == {0.0: 0, 1.5: 0, 3.0: 2, 1e20: 2}
    # Of a thousandth's spread float32 has 90 dB in torch too: that the graphs are the same is seen in double precision.
    program = torch.export.export(net, (torch.from_numpy(images()[:1]),))
    with monkeypatch.context() as patch:
        patch.setattr(passes, "_like", lambda value, _: value * 0.1 + 300)
        patch.setattr(centred, "MOST_MEAN", 0.0)
        assert any(op_name(node) == "mean" for node in passes.rewritten(program, passes.EXECUTORCH).graph.nodes)
    # Eight numbers have any mean beside their spread, in one sample or another.
    example = (torch.from_numpy(images()[:1]),)
    module = torch.export.export(nn.LayerNorm(8).eval(), example).module()
    assert passes.rewrite(module, passes.EXECUTORCH_INT8, example)


def test_executorch_keeps_softmax_to_its_axis_each_call_to_its_bias_and_each_norm_to_its_call(files):
    def forward(m, x):
        y = F.max_pool2d((m.one(m.conv(x)) + m.two(m.conv(0.5 * x))).relu() - 0.3, 2)
        maps = m.last(torch.softmax(m.act(y), -1)).flatten(1)
        far = 50 * x[:, :1, :1, :1] + 0.5 * x
        norms = m.layer(far), m.group(far.transpose(1, 2)), F.instance_norm(far)
        # No file, for a norm of int8 values in three dimensions; a dead one, for a shuffle of exchanged axes.
        line = F.silu(m.of_lines(m.by_line(x.flatten(2)).relu()))
        line = line[..., 0] + m.behind(m.of_lines(x.flatten(2)))[..., 0]  # of floats, with levels behind it: dead
        shuffled = F.pixel_shuffle(m.channels(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2)
        # XNNPACK's parts of these two were a cycle: no file, of any scheme.
        rows = m.pre(x[:, 0, 0, :3])
        sizes = rows.norm(dim=-1), rows.logsumexp(-1), *torch.var_mean(rows, -1)
        return maps, m.fc(m.flat(m.fc(m.pre(x.mean((2, 3)))))), *norms, line, shuffled, *sizes

    torch.manual_seed(0)
    net = Net(
        forward, conv=conv(), one=nn.BatchNorm2d(8), two=nn.BatchNorm2d(8), act=nn.PReLU(8), last=nn.Conv2d(8, 4, 1),
        pre=nn.Linear(3, 32), fc=nn.Linear(32, 32), flat=nn.PReLU(), layer=nn.LayerNorm(8), group=nn.GroupNorm(4, 8),
        by_line=nn.Linear(64, 4), of_lines=nn.BatchNorm1d(3), channels=nn.Linear(3, 4),
        behind=nn.Conv1d(3, 3, 1),
    )  # fmt: skip
    nn.init.uniform_(net.two.running_mean, -1, 1)
    found, wanted, _, _ = files.export("executorch", net, images())
    assert least_db(found, wanted) >= 100
    found, wanted, eager, _ = files.export("executorch", net, images(), "static_int8")
    assert least_db(found[2:], wanted[2:]) >= 80
    for f, w in zip(found[:2], wanted[:2], strict=True):
        assert np.abs(f - w).max() <= 2.01 * np.diff(np.unique(w)).min()
    assert least_db(found[:2], eager[:2]) >= 20


def test_executorch_has_a_decoder_with_its_encoder_s_weights(files):
    """XNNPACK stored the convolution's order of axes for both: -1 dB, or read beyond the weight."""
    net = Net(lambda m, x: F.conv_transpose2d(m.conv(x).relu(), m.conv.weight, padding=1), conv=conv())
    found, wanted, _, _ = files.export("executorch", net, images())
    assert least_db(found, wanted) >= 100


def test_executorch_s_norms_and_variances_add_up_in_float_in_a_half_precision_file(files):
    """Its kernels add up in half: of 768 values -0.3 dB and 40 dB without the casts, 28 of a running sum of 3,072, 57
    of its average, where torch's half has 75.
    """

    def summed(m, y):
        wide = (y * y).repeat(1, 4)
        sums = wide.cumsum(1), wide.softmax(1), F.avg_pool1d(wide, 1024)
        return m.norm(y), torch.stack([y, 2 * y, 4 * y], 1).var(-1), torch.var_mean(y, 1)[0], *sums

    def forward(m, x):
        y = m.fc(x.flatten(1))
        return y, *summed(m, y)

    torch.manual_seed(0)
    net = Net(forward, fc=nn.Linear(192, 768), norm=nn.LayerNorm(768)).requires_grad_(False)
    found, _, _, _ = files.export("executorch", net, images(), "fp16")
    # From what the linear layer gives there: on processors that add up in half, as phones do, it is another.
    y = torch.from_numpy(found[0])
    wanted = [row.numpy() for row in summed(net, y)]
    own = [row.float().numpy() for row in summed(copy.deepcopy(net).half(), y.half())]
    assert least_db(found[1:2], wanted[:1]) >= 50
    for ours, torchs, want in zip(found[2:], own[1:], wanted[1:], strict=True):
        assert least_db([ours], [want]) >= least_db([torchs], [want]) - 6


def test_a_half_precision_graph_has_the_sizes_that_vary_and_its_layers_names():
    from pocketforge.rewrites.graph import where
    from pocketforge.runtimes.executorch_half import in_half

    program = torch.export.export(
        Net(lambda m, x: m.norm(m.fc(x)), fc=nn.Linear(8, 4), norm=nn.LayerNorm(4)).eval(),
        (torch.zeros(1, 6, 8),),
        dynamic_shapes={"inputs": ({1: torch.export.Dim("length", min=2, max=9)},)},
    )
    half = in_half(program)
    (made,) = half.graph.output_node().args[0]
    assert made.meta["val"].dtype == torch.float32
    assert isinstance(made.meta["val"].shape[1], torch.SymInt)
    assert half.module()(torch.ones(1, 3, 8)).shape == (1, 3, 4)
    names = {op_name(node): where(node).partition(" (at ")[0] for node in half.graph.nodes}
    assert names["linear"] == "linear of 'fc'" and names["layer_norm"] == "layer_norm of 'norm'"


def test_a_half_precision_graph_has_bytes_in_half():
    """As a packed file takes them: a cast to float32 in the graph was one, and no layer in half took what followed."""
    from pocketforge.runtimes.executorch_half import in_half

    torch.manual_seed(0)
    net = Net(lambda m, x: m.fc(x.to(torch.float32) / 255), fc=nn.Linear(8, 4)).eval()
    pixels = torch.arange(16, dtype=torch.uint8).reshape(2, 8) * 16
    half = in_half(torch.export.export(net, (pixels[:1],)))
    found = half.module()(pixels[:1])
    assert found.dtype == torch.float32 and torch.allclose(found, net(pixels[:1]), atol=2e-3)


def test_executorch_has_windows_of_sizes_that_vary_in_int8(tmp_path):
    """A layer whose sizes were asked for beside its levels had no kernel for its weights; and padding up to whole
    windows by a length that varies failed in our own rewrites.
    """
    from pocketforge.rewrites.shapes import shapes_of
    from pocketforge.runtimes import executorch
    from pocketforge.runtimes.base import ExportRequest
    from pocketforge.runtimes.sessions.executorch import open_session

    def windows(m, x):
        y = m.conv(F.pad(x, (0, (4 - x.shape[3] % 4) % 4)))
        parts = y.reshape(1, 8, 8, y.shape[3] // 4, 4).permute(0, 2, 3, 4, 1).reshape(-1, 4, 8)
        return m.fc(parts).mean((0, 1))[None]

    torch.manual_seed(0)
    example = (torch.from_numpy(images()[:1]),)
    program = torch.export.export(
        Net(windows, conv=conv(), fc=nn.Linear(8, 4)).eval(),
        example,
        dynamic_shapes={"inputs": ({3: 4 * torch.export.Dim("quarter", min=1, max=4)},)},
    )
    graph, _ = pt2e.quantize_graph(program, [images()], Quantize("static_int8", calibration="minmax"))
    program = torch.export.export(graph, example, dynamic_shapes=shapes_of(program))
    names = (("input",), ("output",))
    request = ExportRequest(program, program, example, *names, "NCHW", "float32", None, scheme="static_int8")
    session = open_session(tmp_path / executorch.export(request, tmp_path).files["model"], 1)
    for width in (8, 12):
        sample = np.random.default_rng(1).normal(size=(1, 3, 8, width)).astype(np.float32)
        assert least_db([np.array(session.run([sample])[0])], answers(graph, sample)) >= 30


def test_executorch_pads_and_cuts_in_int8_and_gives_one_value_as_several_outputs(files):
    def forward(m, x):
        y = m.conv(F.pad(x, (0, 1, 2, 0)))
        z = F.max_pool2d(F.pad(y.relu(), (-1, 1, 0, 1)), 3, 2)
        written = y.clone()  # a copy of levels that is read whole and in part: dead
        written[:, :1, 2:4] = 2 * y[:, 1:2, 2:4]
        soft = m.soft(x)
        masked = soft.clone()  # a copy that its origin is read beside: no fp32 file
        masked[soft > 0] = 0.5
        z = F.max_pool2d(z[0], 2, 1)[None]  # of one map without a batch
        z = F.conv2d(z, torch.full((8, 1, 1, 1), 0.5), groups=8)  # a weight that is computed from nothing
        plus = F.softplus(m.plus(x))  # ExecuTorch takes it apart, then its input is read twice: 6.5 dB
        # The difference is of floats, in torch's order of axes; the map itself is both levels and an output.
        outputs = y, F.dropout(y, 0.5, False), y.clone(), m.last(F.pad(z, (1, 1)))
        of_all = m.soft(x) * x.mean()  # levels of no axis: no file
        line = m.line(torch.relu(y).flatten(1)[:, :, None])  # other levels behind the new axis than before it: dead
        flat = m.flat(torch.relu(y).transpose(2, 3).contiguous().view(1, 8, -1))  # behind fewer axes too
        return *outputs, y - torch.maximum(y, 0.5 * y), written, plus, masked, line, flat, of_all

    torch.manual_seed(0)
    net = Net(forward, conv=conv(), soft=conv(), plus=conv(), last=nn.Conv2d(8, 4, 4, padding="same"),
              line=nn.Conv1d(720, 3, 1), flat=nn.Conv1d(8, 3, 1))  # fmt: skip
    found, wanted, _, _ = files.export("executorch", net, images())
    assert least_db(found, wanted) >= 100
    found, wanted, eager, _ = files.export("executorch", net, images(), "static_int8")
    assert least_db(found[4:], wanted[4:]) >= 25  # -2 dB with its axes exchanged
    for f, w in zip(found[:4], wanted[:4], strict=True):
        assert np.abs(f - w).max() <= 2.01 * np.diff(np.unique(w)).min()
    assert least_db(found[:4], eager[:4]) >= 25


def test_tflite_has_torch_s_transposed_convolutions_nearest_interpolation_and_windows_along_each_axis(files):
    """Without the rewrites: other neighbours, no file, maps of other sizes, -2 dB, or a file that does not load."""

    def forward(m, x):
        maps = m.deep(F.interpolate(torch.add(m.up(x), m.side(x), alpha=0.5), size=(13, 19)))
        return m.head(maps), m.line(m.same(x.flatten(2))), *m.pooled(x)

    torch.manual_seed(0)
    net = Net(
        forward,
        up=nn.ConvTranspose2d(3, 12, 3, 2, 1, output_padding=1),
        side=nn.ConvTranspose2d(3, 12, 4, 2, 1, groups=3),
        deep=nn.ConvTranspose2d(12, 12, (1, 3), (1, 2), (0, 1), groups=12),
        head=nn.Conv2d(12, 2, 1),
        same=nn.Conv1d(3, 4, 3, padding="same"),
        line=nn.ConvTranspose1d(4, 4, 3, 2, 1),
        pooled=made("poolings of unlike axes"),
    )
    found, wanted, _, _ = files.export("tflite", net, images())
    assert least_db(found, wanted) >= 100
    found, wanted, _, _ = files.export("tflite", made("poolings of unlike axes"), images(), "static_int8")
    assert least_db(found, wanted) >= 35


def test_onnx_has_torch_s_windows_and_divisors(files):
    """Without the rewrites: no file where ceil_mode adds nothing; without divisor_override's factor, silently."""
    found, wanted, _, _ = files.export("onnx", made("poolings of unlike axes"), images())
    assert least_db(found, wanted) >= 100


def test_tflite_gathers_and_expands_maps_whose_channels_it_moves(files):
    """Without the rewrites: no file (a constant that `forward` makes), a dead one, or -2 dB."""
    net = made("gathered and expanded")
    found, wanted, _, _ = files.export("tflite", net, images(), "static_int8")
    assert least_db(found, wanted) >= 40
    module: Any = torch.export.export(net, (torch.from_numpy(images()[:1]),)).module()
    passes.rewrite(module, passes.TFLITE)
    assert "detach_" not in set(map(op_name, module.graph.nodes))


def scaled_and_normed(m, x):
    y = m.first(x.flatten(1)[:, :12])
    return torch.maximum(m.second(m.norm(y)), y), m.second(8 * y), m.third(F.hardsigmoid(y))


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_dynamic_layers_keep_their_scales_beside_others_of_the_same_levels_and_behind_factors(runtime, files):
    """TFLite's converter takes a factor into the levels (4 dB, 25 with a sixth); torch's for ONNX stores equal ones
    once, and a layer and its copy with a norm folded in, which differ in scales alone, had one's (14 dB).
    """
    torch.manual_seed(0)
    layers = {"first": nn.Linear(12, 8), "second": nn.Linear(8, 8), "third": nn.Linear(8, 4, bias=False)}
    net = Net(scaled_and_normed, norm=nn.BatchNorm1d(8), **layers)
    nn.init.uniform_(net.norm.weight, 0.5, 4)
    found, wanted, _, _ = files.export(runtime, net, images(), "dynamic_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= 35, dbs


def floats_before_levels(m, x):
    floats, less = torch.exp(-m.a(x).abs()) * x, 1 - x.flatten(2)
    return (
        m.averaged(F.avg_pool2d(x, 2)),
        m.resized(F.interpolate(x, scale_factor=2, mode="bilinear")),
        m.whole(x),
        m.largest(F.max_pool2d(x, 2)),
        m.part(0.1 * x[:, :, :2]),
        m.joined(torch.cat([floats[:, :1], floats[:, 1:].sin()], 1)),
        m.mean(F.avg_pool2d(torch.exp(m.a(x)), 2).flatten(1)),
        torch.sin(3 * x),
        m.value(less),
        less,
    )


def test_tflite_computes_in_float_what_the_graph_quantizes_only_then(files):
    """The converter gives levels to what comes before: 8 to 31 dB without the rewrites."""
    torch.manual_seed(0)
    convs = {name: conv(3, 3) for name in ("a", "averaged", "resized", "whole", "largest", "part", "joined")}
    net = Net(floats_before_levels, **convs, value=nn.Conv1d(3, 3, 3, stride=2, padding=1), mean=nn.Linear(48, 4))
    found, wanted, _, _ = files.export("tflite", net, images(), "static_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= 45, dbs
    net = Net(lambda m, x: (m.a(x[:, :, :2]), torch.sin(x)), a=conv(3, 3))
    found, wanted, _, _ = files.export("tflite", net, images(), "static_int8")
    assert least_db(found, wanted) >= 45


def levels_before_levels(m, x):
    y, line = m.a(x), m.line(x.flatten(2))
    averaged, largest, whole = F.avg_pool2d(y, 3, 1, 1), y.amax(3, keepdim=True), y.clamp(-0.2, 0.1)
    spread, pooled = F.softplus(x), F.max_pool1d(line, 3)
    return (
        m.b(F.interpolate(y, scale_factor=2, mode="bilinear")),
        m.b(averaged) + averaged.exp().mean(),
        m.b(largest) + largest.exp().mean(),
        m.b(whole) + whole.exp().mean(),
        m.b(y.flip(2)[:, :, :3]) + y.exp().mean(),
        m.second(F.avg_pool1d(line, 6)),
        m.second(pooled) + pooled.exp().mean(),
        m.b(F.max_pool2d(F.celu(-x, 0.5), 2)),
        m.b(spread) + spread,
        torch.lerp(y, torch.relu(m.square(y)), 0.3),
        F.layer_norm(F.avg_pool2d(y, 3, 2, 1), (4,)),
        F.softplus(y),
        m.b(F.threshold(y, 0.1, -3.0)),
        torch.logaddexp(y, m.square(y)),
    )


def test_tflite_keeps_the_levels_of_what_is_moved_averaged_or_chosen_and_each_reader_s_axes(files):
    """Without: no file (`lerp`; the pooling in one dimension); without these two 0 to 19 dB in each output."""
    torch.manual_seed(0)
    layers = {"line": nn.Conv1d(3, 6, 3, padding=1), "second": nn.Conv1d(6, 4, 1), "square": conv(3, 3)}
    net = Net(levels_before_levels, a=conv(3, 3), b=conv(3, 3), **layers)
    found, wanted, _, _ = files.export("tflite", net, images(), "static_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= 30, dbs


def activations_in_a_row(m, x):
    y = m.conv(x)
    both = F.relu6(y - 1)
    return (
        F.hardtanh(F.relu6(m.conv(2 * x)), -1.5, 2.0),
        F.relu(F.hardtanh(y + x, -1.5, 2.0)),
        F.hardtanh(F.relu(F.hardtanh(m.fc(x.mean((2, 3))), -1.0, 0.5)), -1.0, 0.2),
        F.relu6(F.relu(F.relu(x - y))),
        F.hardtanh(both, -1.0, 1.0) + both,
        F.relu(F.hardtanh(m.conv(0.5 * x), -2.0, -1.0)) + y,
    )


@pytest.mark.parametrize("scheme", ["fp32", "static_int8"])
def test_executorch_keeps_each_of_several_activations_in_a_row(scheme, files):
    """XNNPACK gives a layer the ends of the last alone: 3 to 12 dB before, and in some outputs nothing cut off."""
    torch.manual_seed(0)
    net = Net(activations_in_a_row, conv=conv(3, 3), fc=nn.Linear(3, 3))
    found, wanted, _, _ = files.export("executorch", net, 3 * images(), scheme)
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= (100 if scheme == "fp32" else 30), dbs


def finer_behind_coarse(m, x):
    y = m.wide(x)
    shares = torch.softmax(m.first(x[:, :, 0, 0]), 1)
    choices = [layer(choose(m.deep(x))) for layer, choose in zip(m.read, (F.elu, F.selu, F.celu), strict=True)]
    return m.padded(F.avg_pool2d(y, 3, 2, 1, True)), m.plain(F.avg_pool2d(y, 4)), m.line(shares).relu(), *choices


def test_tflite_rounds_to_fine_levels_once(files):
    """Not an average to the coarse levels of what is averaged, nor shares to the format's 1/256, nor what an ELU leaves
    of large negative values to their own, and only then to the graph's: 35, 37, 41 and 41 dB before, 3, 2, 3 and 3
    steps, which a norm behind them makes larger."""
    torch.manual_seed(0)
    layers = {"padded": nn.Conv2d(4, 4, 1), "plain": nn.Conv2d(4, 4, 1), "line": nn.Linear(24, 24)}
    layers["first"] = nn.Linear(24, 24)
    read = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
    deep = nn.Conv2d(24, 4, 1)
    deep.bias.data -= 4
    net = Net(finer_behind_coarse, wide=nn.Conv2d(24, 4, 1), deep=deep, read=read, **layers)
    for layer in (*layers.values(), *read):
        layer.weight.data = torch.eye(len(layer.weight)).view_as(layer.weight)
    samples = np.random.default_rng(0).normal(size=(6, 24, 8, 8)).astype(np.float32)
    found, wanted, _, _ = files.export("tflite", net, samples, "static_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    steps = [np.abs(f - w).max() / np.diff(np.unique(w)).min() for f, w in zip(found, wanted, strict=True)]
    # The softmax's input is a layer's, which either may round to the next level.
    assert max(steps[:2]) <= 1.01 and min(dbs[:3]) >= 45, (steps, dbs)
    assert max(steps[3:]) <= 2.01 and min(dbs[3:]) >= 35, (steps, dbs)


def joins_of_unlike_levels(m, x):
    a, b = m.a(x), 60 * m.b(x)
    written = a.clone()
    written[:, :1] = b[:, :1]
    return (
        torch.stack([a, b], 1).mean(1),
        m.read(torch.stack([a, b]).flatten(0, 1)),
        torch.hstack([a, b]).amax(1),
        torch.where(x > 0, a, b),
        a.masked_fill(x > 0, -30.0),
        F.pad(a, (1, 1), value=30.0),
        torch.slice_scatter(a, b[:, :1], 1, 0, 1),
        written,
        torch.stack([a.repeat(1, 2, 1, 1), b.tile(1, 2, 1, 1)]).mean(0),
        b.flip(1, 2),
        a.unfold(2, 3, 2),
    )


def test_tflite_joins_values_of_unlike_levels_as_they_are(files):
    """The converter gives the whole one part's levels: -2 to 1 dB before; no file for windows, a dead one for flips."""
    torch.manual_seed(0)
    net = Net(joins_of_unlike_levels, a=conv(3, 3), b=conv(3, 3), read=conv(3, 3))
    found, wanted, _, _ = files.export("tflite", net, images(), "static_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= 30, dbs


def squares_and_transposed(m, x):
    line, cut = m.line(x.flatten(2)), m.cut(m.slopes(m.a(x)))
    moved = m.a(x).flatten(2)
    return (
        m.second(line.square() + 0.01),
        (line + line).relu(),
        m.b((moved * moved).unflatten(2, (8, 8))),
        cut,
        m.b(m.norm(m.no_bias(x)).relu()),
        m.long(line),
    )


def test_tflite_has_products_of_one_value_and_transposed_convolutions_in_int8(files):
    """Without: no file, for a reshape of unlike scales; float layers of weights that were not rounded, 41 dB."""
    from ai_edge_litert import schema_py_generated as schema

    from pocketforge.runtimes.tflite_objects import kind_of, unpacked

    torch.manual_seed(0)
    layers = {"line": nn.Conv1d(3, 6, 3), "second": nn.Conv1d(6, 4, 1), "long": nn.ConvTranspose1d(6, 4, 4, 2)}
    layers |= {"no_bias": nn.ConvTranspose2d(3, 3, 4, 2, 1, bias=False), "norm": nn.BatchNorm2d(3)}
    layers |= {"cut": nn.ConvTranspose2d(3, 4, 5, 2, 2, output_padding=1), "slopes": nn.PReLU(3)}
    net = Net(squares_and_transposed, a=conv(3, 3), b=conv(3, 3), **layers)
    found, wanted, _, path = files.export("tflite", net, images(), "static_int8")
    dbs = [least_db([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert min(dbs) >= 45, dbs
    model = unpacked(path.read_bytes())
    graph = model.subgraphs[0]
    kinds = schema.BuiltinOperator.TRANSPOSE_CONV, schema.BuiltinOperator.MUL, schema.BuiltinOperator.ADD
    read = [[graph.tensors[i].type for i in op.inputs] for op in graph.operators if kind_of(model, op) == kinds[0]]
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    assert read == [[int32, int8, int8, int32]] * 3
    made = {kind: [graph.tensors[op.outputs[0]].type for op in graph.operators if kind_of(model, op) == kind]
            for kind in kinds}  # fmt: skip
    assert {kind: types.count(int8) for kind, types in made.items()} == {kinds[0]: 3, kinds[1]: 3, kinds[2]: 2}, made


def test_tflite_s_logistic_and_tanh_have_the_format_s_scale(files):
    from ai_edge_litert import schema_py_generated as schema

    def forward(m, x):
        both = torch.cat([torch.sigmoid(m.a(x)), m.b(x)], 1)
        maps = m.c(F.max_pool2d(torch.tanh(both), 2))
        # One value for readers that the converter lays out in different ways.
        return m.d(F.elu(maps) * torch.sigmoid(maps)).flatten(1)

    torch.manual_seed(0)
    net = Net(forward, a=conv(), b=conv(), c=conv(16, 4), d=conv(4, 4, stride=2, groups=4))
    found, wanted, _, path = files.export("tflite", net, images(), "static_int8")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    scales = {}
    for op in model.subgraphs[0].operators:
        kind = model.operatorCodes[op.opcodeIndex].builtinCode
        if kind in (schema.BuiltinOperator.LOGISTIC, schema.BuiltinOperator.TANH):
            tensor = model.subgraphs[0].tensors[op.outputs[0]]
            assert tensor.type == schema.TensorType.INT8
            scales[kind] = (tensor.quantization.scale[0], tensor.quantization.zeroPoint[0])
    assert scales == {schema.BuiltinOperator.LOGISTIC: (1 / 256, -128), schema.BuiltinOperator.TANH: (1 / 128, 0)}
    step = np.diff(np.unique(wanted[0])).min()
    assert np.abs(found[0] - wanted[0]).max() <= 3.01 * step
    assert least_db(found, wanted) >= 25


@pytest.mark.parametrize(
    ("op", "named"),
    [
        (lambda x: x.topk(2, 1).values, r"sorts, at topk of '0' \(at .*test_rewrites.py:\d+\)"),
        (lambda x: x.argsort(1), r"sorts, at argsort of '0' \(at .*test_rewrites.py:\d+\)"),
        # The file is written, and its runtime says "Node number 10" of it.
        (
            lambda x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2),
            r"computed places, at col2im of '0' \(at .*test_rewrites.py:\d+\).*STABLEHLO_SCATTER",
        ),
    ],
)
def test_what_no_tflite_runtime_has_is_refused_by_its_layer_s_name(op, named, files):
    class Named(nn.Module):
        def forward(self, x):
            return op(x)

    with pytest.raises(StageFailed, match=named):
        files.export("tflite", nn.Sequential(Named()), images())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.Conv3d(3, 4, 3), r"no convolution in three dimensions: convolution of '1'"),
        (lambda: nn.MaxPool3d(2), r"no kernel for max_pool3d_with_indices \(aten::max.*\.out\): .* of '1'"),
    ],
)
def test_what_executorch_has_no_kernel_for_is_refused_by_its_layer_s_name(make, named, files):
    volumes = np.zeros((1, 3, 4, 6, 6), np.float32)
    with pytest.raises(StageFailed, match=named):
        files.export("executorch", nn.Sequential(nn.ReLU(), make()), volumes)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exporter_s_refusal_names_the_layer_its_line_and_the_innermost_cause(runtime, files):
    from pocketforge.runtimes.base import ExportRequest
    from pocketforge.stages.export import exporters_words

    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumprod(x, -1)

    net = Net(lambda m, x: m.odd(m.first(x)), first=conv(), odd=Odd())
    example = (torch.from_numpy(images()[:1]),)
    program = torch.export.export(net.eval(), example)
    request = ExportRequest(program, None, example, ("input",), ("output",), "NCHW", "float32", None)
    caught = None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(RUNTIMES[runtime].module).export(request, files.folder)
    except Exception as error:  # each toolchain has a kind of its own
        caught = error
    assert caught is not None
    said = exporters_words(caught, request, runtime)
    line = next(n for n, text in enumerate(Path(__file__).read_text("utf-8").splitlines(), 1) if "cumprod(x" in text)
    assert f"{runtime} could not export the model, at cumprod of 'odd' (at {__file__}:{line}): " in said.message
    assert "prod" in first_line(caught)
    assert "this layer" in said.hint
    assert runtime not in said.hint.partition("(")[2]


def test_an_error_at_a_node_that_a_pass_put_in_names_the_layer_before_it() -> None:
    """XNNPACK's passes look at what they made themselves, and at a graph's end, without a word of which it is."""
    from pocketforge.rewrites.blame import layer_of

    net = Net(lambda m, x: (m.first(x), m.last(x.relu())), first=conv(), last=conv())
    program = torch.export.export(net.eval(), (torch.from_numpy(images()[:1]),))
    graph = program.graph_module.graph
    (end,) = (node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(end):
        levels = graph.call_function(torch.ops.aten.neg.default, (end.args[0][1],))
        levels.meta["stack_trace"] = f'File "{torch.__path__[0]}/nn/modules/activation.py", line 1, in forward'
    end.args = ((end.args[0][0], levels),)

    def named(**frame: Any) -> str:
        def fail(at_end: Any = None, out_node: Any = None, original: Any = None) -> None:
            raise KeyError("val")

        with pytest.raises(KeyError) as caught:
            fail(**frame)
        return layer_of(caught.value, list(program.graph.nodes))

    line = Path(__file__).read_text("utf-8").splitlines().index("        return self.given(self, *inputs)") + 1
    for frame in ({"at_end": end, "out_node": levels}, {"original": levels}):
        assert named(**frame) == f"conv2d of 'last' (at {__file__}:{line})"
    assert named(at_end=end) == f"conv2d of 'first' (at {__file__}:{line})"
    assert not named()


def test_a_file_that_is_dead_at_load_names_the_layer_that_its_runtime_stopped_at(tmp_path):
    """XNNPACK pads no levels into floats: what the quantizer sees to, a graph made by hand does not."""
    from pocketforge.errors import ToolFailed
    from pocketforge.measure.on_host import run_file
    from pocketforge.runtimes import executorch
    from pocketforge.runtimes.base import ExportRequest

    class Padded(nn.Module):
        def forward(self, x):
            ops, levels = torch.ops.quantized_decomposed, (0.02, 3, -128, 127, torch.int8)
            x = ops.dequantize_per_tensor.default(ops.quantize_per_tensor.default(x, *levels), *levels)
            return F.pad(x, (0, 1))

    example = (torch.from_numpy(images()[:1]),)
    program = torch.export.export(nn.Sequential(Padded()).eval(), example)
    names = (("input",), ("output",))
    request = ExportRequest(program, program, example, *names, "NCHW", "float32", None, scheme="static_int8")
    executorch.export(request, tmp_path)
    np.save(tmp_path / "eval_0.npy", images())
    with pytest.raises(ToolFailed) as caught:
        run_file({"export": tmp_path, "data": tmp_path}, "executorch", "model.pte", tmp_path / "out")
    lines = Path(__file__).read_text("utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.strip() == "return F.pad(x, (0, 1))")
    said = f"the executorch runtime on model.pte, at constant_pad_nd of '0' (at {__file__}:{line}), ended with "
    assert caught.value.message.startswith(said)
    assert "Failed to create StaticConstantPad node" in caught.value.message
    assert "quantize.overrides" in caught.value.hint


def test_recurrent_layers_are_refused_by_name_where_they_are_most_of_the_weights():
    from pocketforge.errors import ModelError
    from pocketforge.quantization.recurrent import check_recurrent

    def program(width: int) -> Any:
        net = Net(lambda m, x: m.fc(m.rnn(x)[0].flatten(1)), rnn=nn.LSTM(8, width), fc=nn.Linear(3 * width, 64))
        return torch.export.export(net.eval(), (torch.zeros(1, 3, 8),))

    with pytest.raises(
        ModelError, match=r"(?s)would leave \d+% of the weights in float: lstm of 'rnn' \(at .*"
    ) as refused:
        check_recurrent(program(64), "static_int8")
    assert "fp16" in refused.value.hint and "dynamic_int8" in refused.value.hint
    check_recurrent(program(64), "dynamic_int8")
    check_recurrent(program(4), "static_int8")


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells_are_recurrent_layers_too(cell: Any) -> None:
    from pocketforge.errors import ModelError
    from pocketforge.quantization.annotated import annotated_parts
    from pocketforge.quantization.recurrent import check_recurrent

    net = Net(lambda m, x: m.fc(torch.cat(_one_step(m.rnn(m.fc(x))), 1)[:, :8]), rnn=cell(8, 16), fc=nn.Linear(8, 8))
    program = torch.export.export(net.eval(), (torch.zeros(1, 8),))
    with pytest.raises(ModelError, match=r"would leave \d\d% of the weights in float: .*_cell of 'rnn'.*") as refused:
        check_recurrent(program, "static_int8")
    assert "write the cell with linear layers" in refused.value.hint
    layers = [part for part in annotated_parts(pt2e.prepare(program, Quantize("static_int8"))) if not part.operation]
    weights = sum(parameter.numel() for parameter in net.rnn.parameters())
    assert [(part.name, part.numbers, part.weights) for part in layers if part.name == "rnn"] == [
        ("rnn", "float", weights)
    ]


def _one_step(given: Any) -> list[Any]:
    return list(given) if isinstance(given, tuple) else [given]


@pytest.mark.parametrize("slopes", [[0.25, -0.5, 1.0], [1.5, 1.0, 2.0], [0.5, 2.0, 0.0]])
@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 4), (1, 3, 4, 4)])
def test_prelu_in_tflite_reads_the_layer_before_it_once_and_not_its_negative(
    slopes: list[float], shape: tuple[int, ...]
) -> None:
    prelu = nn.PReLU(3)
    prelu.weight.data[:] = torch.tensor(slopes)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    program = passes.rewritten(torch.export.export(prelu.eval(), (x,)), passes.TFLITE)
    kinds = {op_name(node) for node in program.graph.nodes}
    assert not kinds & {"prelu", "where", "neg"} and ("relu" in kinds) == (slopes == [0.5, 2.0, 0.0])
    with torch.no_grad():
        assert torch.equal(program.module()(x), prelu(x))


def test_a_stage_s_error_is_the_one_that_it_was_raised_from():
    def wrapped() -> None:
        try:
            raise KeyError("stride")
        except KeyError as error:
            raise RuntimeError("An error occurred when running the 'Some' pass after these passes: …") from error

    with pytest.raises(RuntimeError) as caught:
        wrapped()
    assert first_line(caught.value) == "KeyError: 'stride'"
    # What was being handled by chance is no cause.
    caught.value.__cause__ = None
    assert first_line(caught.value).startswith("RuntimeError: An error occurred")


def test_origins_survive_a_rewrite():
    program = torch.export.export(made("output read twice"), (torch.from_numpy(images()[:1]),))
    module: Any = program.module()
    assert passes.rewrite(module, passes.QUANTIZER)
    new = next(n for n in module.graph.nodes if op_name(n) == "conv2d" and n.args[1].target == "bn1.depthwise.weight")
    assert [name for name, _ in new.meta["nn_module_stack"].values()][-1] == "bn1"


def traced_for_sizes(net: nn.Module) -> Any:
    """The net's graph for maps of 12 to 40 rows and columns, of even lengths, traced at 24 × 32."""
    steps = {axis: 2 * torch.export.Dim(f"_{axis}", min=6, max=20) for axis in (2, 3)}
    return torch.export.export(net, (torch.rand(1, 4, 24, 32),), dynamic_shapes=((steps,),), strict=False)


def test_rewrites_keep_the_function_at_sizes_that_were_not_traced():
    def forward(m, x):
        up = m.up(x)
        means = m.norm(F.pad(up, (-1, 1, 0, -1)) + 50)
        lines = m.line(m.prelu(up.amax(2) - 0.5))
        return means, m.response(up), m.averages(x), m.divided(x), lines, m.windows(x)

    net = Net(
        forward,
        up=nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
        norm=nn.GroupNorm(2, 4),
        response=nn.LocalResponseNorm(3),
        averages=nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        divided=nn.AvgPool2d(3, 2, 1, divisor_override=5),
        prelu=nn.PReLU(4),
        line=nn.ConvTranspose1d(4, 4, 4, 2, 1),
        windows=nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    ).eval()
    program = traced_for_sizes(net)
    for reader in (passes.QUANTIZER, passes.EXECUTORCH, passes.ONNX):
        graph = program.module()
        assert passes.rewrite(graph, reader, program.example_inputs[0])
        for size in ((12, 40), (14, 18)):
            sample = torch.rand(1, 4, *size).numpy()
            # Norms of large means have few digits.
            assert least_db(answers(graph, sample), answers(net, sample)) > 70, (reader, size)


@pytest.mark.parametrize("layer", [nn.AdaptiveMaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.AvgPool2d(2, ceil_mode=True)])
def test_windows_that_depend_on_a_size_that_varies_are_refused_by_the_layer_s_name(layer):
    graph = traced_for_sizes(Net(lambda m, x: m.pool(x), pool=layer)).module()
    with pytest.raises(StageFailed, match=r"of 'pool' .*has no form for sizes that vary"):
        passes.rewrite(graph, passes.ONNX)
