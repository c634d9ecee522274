"""Whole blocks are found, ranked and dropped, and what is left is a smaller model that exports without them."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from pocketforge.errors import ModelError  # noqa: E402
from pocketforge.model.load import build_model, count_macs, count_parameters, trace  # noqa: E402
from pocketforge.model.surgery import Replace, Skip, apply_edits, edit_from_json, edit_to_json  # noqa: E402
from pocketforge.model.weights import load_weights  # noqa: E402
from pocketforge.outcomes.prune import MapFit, ReachedGoal  # noqa: E402
from pocketforge.pruning.base import Pruned, Subject  # noqa: E402
from pocketforge.pruning.blocks import observe, residual_blocks  # noqa: E402
from pocketforge.pruning.drop_layers import prune  # noqa: E402
from pocketforge.pruning.refit import ridge  # noqa: E402
from pocketforge.recipe.compress import DropLayers, Goal  # noqa: E402

DIGITS_CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"


class Block(nn.Module):
    """relu(x + f(x)); with a projection where the shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.short(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Three stages of blocks on 1×8×8 images."""

    def __init__(self, blocks: int = 2, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1)
        self.stage1 = nn.Sequential(*(Block(width, width) for _ in range(blocks)))
        self.stage2 = nn.Sequential(
            Block(width, 2 * width, 2), *(Block(2 * width, 2 * width) for _ in range(blocks - 1))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stage2(self.stage1(self.stem(x)))).flatten(1))


class TwoConvs(nn.Module):
    """The tutorials' CNN: 1 → 64 → 128 channels, pools, one linear layer."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(128) if norm else nn.Identity()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(128 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        return self.fc(self.pool(torch.relu(self.bn2(self.conv2(x)))).flatten(1))


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return x, torch.tensor(labels)


def train(module: nn.Module, x: Tensor, y: Tensor, epochs: int, lr: float = 2e-3) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr)
    module.train()
    for _ in range(epochs):
        for i in range(0, len(x) - 1, 60):
            optimizer.zero_grad()
            functional.cross_entropy(module(x[i : i + 60]), y[i : i + 60]).backward()
            optimizer.step()
    module.eval()


def accuracy(module: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (module(x).argmax(1) == y).float().mean().item()


def subject(module: nn.Module, x: Tensor, y: Tensor, samples: int = 120, **more: Any) -> Subject:
    batches = [((x[i : i + 40],), y[i : i + 40]) for i in range(0, samples, 40)]
    return Subject(module.eval(), (x[:1],), batches, more.pop("loss", functional.cross_entropy), **more)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small layers on a shared machine: more threads wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return digits()


@pytest.fixture(scope="module")
def trained_resnet(data: tuple[Tensor, Tensor]) -> nn.Module:
    torch.manual_seed(0)
    module = ResNet(blocks=3)
    train(module, data[0][:900], data[1][:900], 4)
    return module


@pytest.fixture(scope="module")
def trained_two(data: tuple[Tensor, Tensor]) -> nn.Module:
    torch.manual_seed(0)
    module = TwoConvs()
    train(module, data[0][:1200], data[1][:1200], 4, 1e-3)
    return module


@pytest.fixture
def resnet(trained_resnet: nn.Module) -> nn.Module:
    return copy.deepcopy(trained_resnet)


@pytest.fixture
def two(trained_two: nn.Module) -> nn.Module:
    return copy.deepcopy(trained_two)


def digits_cnn() -> nn.Module:
    module = build_model(str(DIGITS_CNN / "model.py"), {}, Path)
    load_weights(module, DIGITS_CNN / "weights.safetensors")
    return module


def of_digits_cnn(data: tuple[Tensor, Tensor], samples: int = 80) -> Subject:
    # As its recipe preprocesses.
    x = (functional.interpolate(data[0][:samples], size=(32, 32), mode="bilinear") - 0.5) / 0.5
    return subject(digits_cnn(), x, data[1][:samples], samples)


def costs(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[int, int]:
    return count_macs(module, example), count_parameters(module)


# Finding candidates


def test_the_shipped_cnn_has_two_blocks_that_can_go(data: tuple[Tensor, Tensor]) -> None:
    report = prune(of_digits_cnn(data), DropLayers(count=1)).report
    assert {c.name for c in report.candidates} == {"residual", "inverted"}


class Gate(nn.Module):
    """Squeeze-and-excitation: a product with the input is no sum with it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class Plain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Closed(Plain):
    """A sum with the input, and then a convolution: without the block the convolution is gone too."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + self.conv(x))


class Projected(Plain):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.short = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.short(x) + self.conv(x)


class Scaled(Plain):
    """ConvNeXt's: x + gamma * f(x)."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(x)


class InPlace(Plain):
    """Pre-activation, written over its own input; the block's result is not that input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() + self.conv(x)


class Nested(nn.Module):
    """A residual block with a residual block in it and weights of its own: the outer one is the block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = Scaled(width)
        self.own = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.own(self.inner(x))


def test_a_block_is_one_that_adds_its_input() -> None:
    kinds = {"gate": Gate, "plain": Plain, "closed": Closed, "projected": Projected}
    adds = {"scaled": Scaled, "in_place": InPlace, "nested": Nested}
    module = nn.Sequential()
    for name, kind in {**kinds, **adds}.items():
        module.add_module(name, kind(4))
    assert residual_blocks(observe(module.eval(), (torch.randn(1, 4, 6, 6),))) == ["scaled", "in_place", "nested"]


def test_of_a_stage_the_blocks_are_taken_and_reused_ones_are_not() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Sequential(Scaled(4), nn.Sequential(Scaled(4)))
            self.shared = Scaled(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(self.stage(x)))

    found = residual_blocks(observe(Twice().eval(), (torch.randn(1, 4, 6, 6),)))
    assert found == ["stage.0", "stage.1.0"]


# Dropping them


@pytest.mark.parametrize("importance", ["loss", "cosine", "taylor"])
def test_each_importance_drops_exactly_one_block(data: tuple[Tensor, Tensor], importance: Any) -> None:
    before = of_digits_cnn(data)
    macs, parameters = costs(before.module, before.example)
    pruned = prune(before, DropLayers(count=1, importance=importance))
    (name,) = pruned.report.dropped
    (gone,) = [c for c in pruned.report.candidates if c.name == name]
    measured = [c.importance for c in pruned.report.candidates if c.importance is not None]
    assert len(measured) == len(pruned.report.candidates) and gone.importance == min(measured)
    now = costs(before.module, before.example)
    assert now == (macs - gone.macs, parameters - gone.parameters)
    assert pruned.report.macs == (macs, now[0]) and pruned.report.parameters == (parameters, now[1])
    assert isinstance(before.module.get_submodule(name), Skip)
    assert pruned.report.kept == tuple(c.name for c in pruned.report.candidates if c.name != name)


def test_the_importances_are_what_they_say(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    found = {}
    for importance in ("loss", "cosine", "taylor"):
        of = subject(copy.deepcopy(resnet), x, y)
        found[importance] = {
            c.name: c.importance for c in prune(of, DropLayers(count=1, importance=importance)).report.candidates
        }
    name = "stage1.1"
    loss = functional.cross_entropy(resnet(x[:120]), y[:120])
    block = resnet.get_submodule(name)
    gradients = torch.autograd.grad(loss, list(block.parameters()))
    taylor = sum((p * g).abs().sum().item() for p, g in zip(block.parameters(), gradients, strict=True))
    assert found["taylor"][name] == pytest.approx(taylor, rel=1e-4)
    with torch.no_grad():
        into = resnet.stage1[0](resnet.stem(x[:120]))
        alike = functional.cosine_similarity(into.flatten(1), block(into).flatten(1)).mean().item()
        resnet.stage1[1] = nn.Identity()
        rise = functional.cross_entropy(resnet(x[:120]), y[:120]).item() - loss.item()
    assert found["cosine"][name] == pytest.approx(1 - alike, abs=1e-5)
    assert found["loss"][name] == pytest.approx(rise, abs=1e-5)


@pytest.mark.parametrize("importance", ["loss", "cosine", "taylor"])
def test_a_useless_block_goes_first_and_changes_nothing(
    resnet: nn.Module, data: tuple[Tensor, Tensor], importance: Any
) -> None:
    x, y = data
    useless = resnet.stage2[1]
    with torch.no_grad():
        for parameter in useless.bn2.parameters():
            parameter.zero_()
        before = resnet(x[:200])
    report = prune(subject(resnet, x, y), DropLayers(count=1, importance=importance)).report
    assert report.dropped == ("stage2.1",)
    assert report.candidates[0].importance == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        assert torch.equal(resnet(x[:200]), before)


def test_the_loss_is_measured_again_after_each_removal(data: tuple[Tensor, Tensor]) -> None:
    """Two blocks that undo each other: each alone matters, but once one is gone the other is the worst to keep."""

    class Add(nn.Module):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.fc = nn.Linear(10, 10, bias=False)
            self.fc.weight.data = weight * torch.eye(10)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    # × 0.1, × 10 and × -1.5: the first two cancel out.
    module = nn.Sequential()
    for name, weight in (("a", -0.9), ("b", 9.0), ("c", -2.5)):
        module.add_module(name, Add(weight))
    x = functional.one_hot(torch.arange(10), 10).float()
    target = -1.5 * x
    of = Subject(module.eval(), (x[:1],), [((x,), target)], lambda out, wanted: (out - wanted).square().mean())
    report = prune(of, DropLayers(count=2)).report
    # Measured once, b and c would go: without b, a is the worst to keep.
    assert [c.name for c in report.candidates] == ["b", "c", "a"]
    assert report.dropped == ("b", "a")
    assert report.loss[1] == pytest.approx(report.loss[0], abs=1e-6)


def test_a_ratio_takes_at_least_that_share_of_the_macs(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    of = subject(resnet, *data)
    pruned = prune(of, DropLayers(ratio=0.3))
    macs = {c.name: c.macs for c in pruned.report.candidates}
    before, after = pruned.report.macs
    last = pruned.report.dropped[-1]
    assert after <= 0.7 * before < after + macs[last], "one block less would not have been enough"
    assert pruned.report.goal and pruned.report.goal.reached == after == count_macs(resnet, of.example)


def test_a_goal_on_parameters(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    parameters = count_parameters(resnet)
    goal = Goal("parameters", limit=parameters - 1)
    report = prune(subject(resnet, *data), DropLayers(goal=goal, importance="cosine")).report
    assert len(report.dropped) == 1 and count_parameters(resnet) < parameters
    assert report.goal and report.goal.reached == report.parameters[1]


def test_a_latency_goal_measures_after_each_block(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    seen = []

    def convolutions(module: nn.Module) -> float:
        seen.append(sum(isinstance(m, nn.Conv2d) for m in module.modules()))
        return float(seen[-1])

    of = subject(resnet, *data, measure=convolutions)
    report = prune(of, DropLayers(goal=Goal("latency_ms", limit=10))).report
    assert seen == [14, 12, 10] and len(report.dropped) == 2
    assert report.goal == ReachedGoal("latency_ms", before=14.0, limit=10.0, reached=10.0)


def test_equal_inputs_give_equal_edits_and_bits(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    results: list[tuple[Pruned, nn.Module]] = []
    for _ in range(2):
        module = copy.deepcopy(resnet)
        results.append((prune(subject(module, *data), DropLayers(count=2, replace="fit")), module))
    (one, first), (other, second) = results
    assert one.edits == other.edits and one.report == other.report
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


# The block really disappears


def test_a_dropped_block_is_in_no_graph(data: tuple[Tensor, Tensor]) -> None:
    import numpy as np
    import onnxruntime

    of = of_digits_cnn(data)
    example = of.example

    def export(module: nn.Module) -> tuple[Any, Counter[str], Counter[str], bytes]:
        program = trace(module, example)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx = torch.onnx.export(program, (), dynamo=True, input_names=["input"], verbose=False)
        nodes = Counter(str(node.target) for node in program.graph.nodes)
        proto = onnx.model_proto
        return program, nodes, Counter(n.op_type for n in proto.graph.node), proto.SerializeToString()

    _, nodes_before, onnx_before, size_before = export(of.module)
    block = of.module.get_submodule("inverted")
    convolutions = sum(isinstance(m, nn.Conv2d) for m in block.modules())
    report = prune(of, DropLayers(count=1, blocks=("inverted",))).report
    assert report.dropped == ("inverted",)
    program, nodes, onnx_ops, file = export(of.module)
    said = [str(node.meta.get("nn_module_stack", "")) for node in program.graph.nodes]
    assert not any("InvertedResidual" in stack and "inverted" in stack.split("'") for stack in said)
    assert not any(name.startswith("inverted.") for name in program.state_dict)
    assert nodes_before["aten.conv2d.default"] - nodes["aten.conv2d.default"] == convolutions == 3
    assert onnx_before["Conv"] - onnx_ops["Conv"] == 3 and onnx_before["Add"] - onnx_ops["Add"] == 1
    assert len(file) < len(size_before) - 30000 * 4
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    sample = of.batches[0][0][0][:1]
    with torch.no_grad():
        wanted = of.module(sample).numpy()
    assert np.allclose(session.run(None, {"input": sample.numpy()})[0], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (lambda: ResNet(blocks=3), DropLayers(count=2)),
        (lambda: ResNet(blocks=3), DropLayers(count=3, replace="fit", importance="taylor", blocks=("stage2.*",))),
        (TwoConvs, DropLayers(count=1, blocks=("conv2",))),
        (lambda: TwoConvs(norm=True), DropLayers(count=1, blocks=("conv2+bn2",))),
        (lambda: TwoConvs(norm=True), DropLayers(count=1, blocks=("conv2+bn2",), replace="fit")),
    ],
)
def test_edits_and_weights_make_the_same_model_again(
    data: tuple[Tensor, Tensor], build: Callable[[], nn.Module], settings: DropLayers
) -> None:
    torch.manual_seed(1)
    module = build().eval()
    names = {f"{name}.weight": m.weight for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    masks = {name: torch.ones_like(weight) for name, weight in names.items()}
    pruned = prune(subject(module, *data, masks=masks), settings)
    again = apply_edits(build(), [edit_from_json(edit_to_json(edit)) for edit in pruned.edits])
    again.load_state_dict(module.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again.eval()(data[0][:50]), module(data[0][:50]))
    state = module.state_dict()
    assert pruned.masks and len(pruned.masks) < len(masks)
    assert all(state[name].shape == mask.shape for name, mask in pruned.masks.items())


# Fitted maps


class Affine(nn.Module):
    """A block of three layers that is, as a whole, one linear map; `kind` is its shape."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        shapes: dict[str, list[nn.Module]] = {
            "conv": [nn.Conv2d(6, 12, 1), nn.BatchNorm2d(12), nn.Conv2d(12, 9, 1)],
            "strided": [nn.Conv2d(6, 12, 2, 2), nn.BatchNorm2d(12), nn.Conv2d(12, 9, 1)],
            "odd": [nn.Conv2d(6, 12, 1, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 9, 1)],
            "linear": [nn.Linear(6, 12), nn.LayerNorm(12, elementwise_affine=False), nn.Linear(12, 9)],
        }
        if kind == "linear":
            shapes["linear"][1] = nn.Identity()
        self.layers = nn.Sequential(*shapes[kind])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("kind", "shape", "by"),
    [
        ("conv", (6, 8, 8), {"kind": "conv2d", "kernel_size": [1, 1], "stride": [1, 1]}),
        ("strided", (6, 8, 8), {"kind": "conv2d", "kernel_size": [2, 2], "stride": [2, 2]}),
        ("odd", (6, 7, 7), {"kind": "conv2d", "kernel_size": [1, 1], "stride": [3, 3]}),
        ("linear", (5, 6), {"kind": "linear"}),
        ("linear", (6,), {"kind": "linear"}),
    ],
)
def test_a_block_that_is_linear_is_recovered(kind: str, shape: tuple[int, ...], by: dict[str, Any]) -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Affine(kind)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.tanh(self.block(x))
            return y.mean(tuple(range(2, y.ndim))) if y.ndim == 4 else y.flatten(1)

    module = Net()
    x = torch.randn(96, *shape)
    module(x)  # batch norm sees some statistics
    module.eval()
    with torch.no_grad():
        before = module.block(x)
    of = subject(module, x, torch.zeros(96, dtype=torch.int64), 80)
    report = prune(of, DropLayers(count=1, blocks=("block",), replace="fit")).report
    (fit,) = report.fits
    assert fit.kind == by["kind"] and fit.error < 1e-4
    for name, value in by.items():
        if name != "kind":
            assert list(getattr(module.block, name)) == value
    with torch.no_grad():
        assert torch.allclose(module.block(x), before, atol=1e-4)
    assert report.parameters[1] < report.parameters[0]


def test_a_fitted_map_is_used_only_where_it_lowers_the_loss(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    losses = {}
    fits: tuple[MapFit, ...] = ()
    for replace in ("identity", "fit"):
        module = copy.deepcopy(resnet)
        report = prune(subject(module, *data), DropLayers(count=1, blocks=("stage2.1",), replace=replace)).report
        losses[replace] = report.loss[1]
        fits = report.fits
    assert losses["fit"] < losses["identity"] and fits[0].kind == "conv2d"
    assert fits[0].loss == pytest.approx(losses["fit"]) and fits[0].loss_of_identity == losses["identity"]
    with torch.no_grad():
        for parameter in resnet.stage2[1].bn2.parameters():
            parameter.zero_()
    (fit,) = prune(subject(resnet, *data), DropLayers(count=1, blocks=("stage2.1",), replace="fit")).report.fits
    assert fit.kind == "identity" and isinstance(resnet.stage2[1], Skip)


def test_both_forms_of_the_ridge_agree() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 39), torch.randn(40, 3)
    primal = ridge(x, y)
    # With columns of zeros there are fewer rows than columns: the dual form; the solution is the same.
    dual = ridge(torch.cat([x, torch.zeros(40, 20)], 1), y)
    assert primal.strength > 0 and dual.strength == pytest.approx(primal.strength)
    assert torch.allclose(dual.weight[:, :39], primal.weight, atol=1e-8)
    assert torch.equal(dual.weight[:, 39:], torch.zeros(3, 20, dtype=torch.float64))
    wanted = torch.linalg.norm(y.double() - x.double() @ primal.weight.T - primal.bias)
    spread = torch.linalg.norm(y.double() - y.double().mean(0))
    assert primal.error == pytest.approx((wanted / spread).item(), rel=1e-6)
    assert dual.error == pytest.approx(primal.error, rel=1e-6)


# The classifier is fitted again


def test_without_conv2_the_classifier_is_fitted_again(two: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    before = accuracy(two, x[1200:], y[1200:])
    macs, parameters = costs(two, (x[:1],))
    pruned = prune(subject(two, x, y), DropLayers(count=1, blocks=("conv2",)))
    refitted = pruned.report.refitted
    assert refitted and refitted.loss and refitted.classifier == "fc" and refitted.in_features == (512, 256)
    assert two.fc.in_features == 256 and two.fc.bias is not None
    assert costs(two, (x[:1],)) == (
        macs - 64 * 128 * 9 * 16 - 256 * 10,
        parameters - 64 * 128 * 9 - 128 - 256 * 10,
    )
    after = accuracy(two, x[1200:], y[1200:])
    untrained = apply_edits(TwoConvs(), pruned.edits)
    untrained.conv1.load_state_dict(two.conv1.state_dict())
    chance = accuracy(untrained, x[1200:], y[1200:])
    assert before > 0.8 and chance < 0.4 and after > before - 0.1, (before, chance, after)
    assert refitted.loss[1] <= refitted.loss[0]


def test_a_classifier_inside_the_model_keeps_what_it_said(data: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 16, bias=False), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip
    with torch.no_grad():
        before = module(data[0][:120])
    broken = copy.deepcopy(module)
    report = prune(subject(module, *data), DropLayers(count=1, blocks=("2",), classifier="5")).report
    assert report.refitted and report.refitted.in_features == (128, 64) and module[5].bias is None
    assert report.refitted.loss is None, "the loss is not of this layer's output"
    with torch.no_grad():
        assert (module(data[0][:120]) - before).norm() < 0.5 * (before - before.mean(0)).norm()
    with pytest.raises(ModelError, match=r"5 then gets input \[1, 64\] instead of \[1, 128\]") as caught:
        prune(subject(broken, *data), DropLayers(count=1, blocks=("2",)))
    assert "classifier names the linear layer" in caught.value.hint


def test_after_later_drops_the_classifier_is_fitted_to_the_end(two: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    two.extra = Scaled(64)
    two.conv1 = nn.Sequential(two.conv1, two.extra)
    pruned = prune(subject(two, *data), DropLayers(count=2, blocks=("conv2", "conv1.1"), importance="taylor"))
    replaced = [edit.module for edit in pruned.edits if isinstance(edit, Replace)]
    assert len(replaced) == len(pruned.edits) and replaced.count("fc") == 1
    assert accuracy(two, data[0][1200:], data[1][1200:]) > 0.7


# Blocks as transformers has them


class TupleLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.ffn = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, flag: bool = False) -> tuple[Tensor, ...]:
        x = self.norm(x + self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0])
        return (x + torch.relu(self.ffn(x)),)


class Encoder(nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(TupleLayer(16) for _ in range(layers))
        self.head = nn.Linear(16, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x, mask = self.embedding(tokens), tokens == 0
        for layer in self.layers:
            x = layer(x, mask, flag=True)[0]
        return self.head(x.mean(1))


@pytest.mark.parametrize("replace", ["identity", "fit"])
def test_layers_that_return_tuples_and_take_masks(replace: Any) -> None:
    torch.manual_seed(0)
    module, tokens = Encoder().eval(), torch.randint(1, 20, (60, 7))
    of = subject(module, tokens, tokens[:, 0] % 10, 40)
    pruned = prune(of, DropLayers(count=2, replace=replace))
    assert {c.name for c in pruned.report.candidates} == {"layers.0", "layers.1", "layers.2"}
    assert all(isinstance(edit, Replace) and edit.by == {"kind": "skip", "as_tuple": True} for edit in pruned.edits)
    nodes = Counter(str(node.target) for node in trace(module, of.example).graph.nodes)
    assert nodes["aten.layer_norm.default"] == 1


def test_a_real_transformers_model_loses_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    # transformers imports torchvision where it is installed.
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "e2e")
    importlib.import_module("torchvision_ops").usable_torchvision()
    config = {
        "model_type": "distilbert", "architectures": ["DistilBertForSequenceClassification"], "vocab_size": 50,
        "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 16, "num_labels": 3,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    module = build_model(f"transformers:{tmp_path}", {}, Path)
    tokens, mask = torch.randint(0, 50, (8, 6)), torch.ones(8, 6, dtype=torch.int64)
    of = Subject(module, (tokens[:1], mask[:1]), [((tokens, mask), tokens[:, 0] % 3)], functional.cross_entropy)
    pruned = prune(of, DropLayers(count=1))
    assert len(pruned.report.candidates) == 3
    (gone,) = [c for c in pruned.report.candidates if c.name == pruned.report.dropped[0]]
    assert pruned.report.parameters[0] - pruned.report.parameters[1] == gone.parameters > 0
    trace(module, of.example)


# What cannot be


@pytest.mark.parametrize(
    ("build", "settings", "message", "hint"),
    [
        (ResNet, {"count": 9}, "count is 9, there are 3 candidates: stage1.0, stage1.1, stage2.1", "lower count"),
        (ResNet, {"count": 1, "protect": ("stage*",)}, "every candidate is protected", "protect fewer"),
        (ResNet, {"count": 1, "blocks": ("stge1.0",)}, "'stge1.0' fits no layer.*did you mean 'stage1.0'", ""),
        (ResNet, {"count": 1, "classifier": "stem"}, "'stem' is not a linear layer", "fc"),
        (ResNet, {"ratio": 0.9}, r"ratio, macs of at most .* cannot be met: the best reached is .*stage2\.1", ""),
        (ResNet, {"goal": Goal("parameters", limit=10)}, "goal, parameters of at most 10, cannot be met", ""),
        (ResNet, {"goal": Goal("latency_ms", limit=1)}, "latency_ms cannot be measured here", "macs"),
        (ResNet, {"count": 1, "blocks": ("stage1.*", "stage1.0.conv1")}, "overlap", "once"),
        (ResNet, {"count": 1, "blocks": ("stage1", "stage1.0.conv1")}, "overlap", "once"),
        (
            ResNet,
            {"count": 1, "blocks": ("stage2.0",), "importance": "cosine"},
            r"stage2.0 takes \[1, 8, 8, 8\]",
            "loss",
        ),
        (
            ResNet,
            {"count": 1, "blocks": ("stage2.0",)},
            r"block stage2.0 cannot be dropped: its input is \[1, 8, 8, 8\], its output \[1, 16, 4, 4\], and "
            r"stage2.1.conv1 then gets input \[1, 8, 8, 8\] instead of \[1, 16, 4, 4\]",
            'replace = "fit"',
        ),
        (
            lambda: TwoConvs(norm=True),
            {"count": 1, "blocks": ("conv2",)},
            r"bn2 then gets input \[1, 64, 4, 4\] instead of \[1, 128, 4, 4\]",
            "conv2\\+bn2",
        ),
        (TwoConvs, {"count": 1}, "no residual block", "blocks ="),
        (TwoConvs, {"count": 1, "blocks": ("pool",)}, "pool cannot be dropped: it runs 2 times", "exactly once"),
        (TwoConvs, {"count": 1, "blocks": ("fc",)}, r"model then gives output \[1, 512\] instead of \[1, 10\]", ""),
        (Encoder, {"count": 1, "blocks": ("layers",)}, "it runs 0 times", "ModuleList"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            {"count": 1, "blocks": ("0",), "replace": "fit"},
            "no linear or 1×1 map does that",
            "",
        ),
    ],
)
def test_a_wrong_wish_is_refused(
    data: tuple[Tensor, Tensor], build: Callable[[], nn.Module], settings: dict[str, Any], message: str, hint: str
) -> None:
    torch.manual_seed(0)
    x, y = data
    if build is Encoder:
        x = (x.reshape(-1, 64)[:, :6] * 16).long()
    with pytest.raises(ModelError, match=message) as caught:
        prune(subject(build(), x, y), DropLayers(**settings))
    assert re.search(hint, caught.value.hint)


def test_a_loss_that_is_no_finite_number(data: tuple[Tensor, Tensor]) -> None:
    def each(out: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(out, wanted, reduction="none")

    for importance in ("loss", "taylor"):
        with pytest.raises(ModelError, match=r"single number, found a tensor of shape \[40\]"):
            prune(subject(ResNet(), *data, loss=each), DropLayers(count=1, importance=importance))
    with pytest.raises(ModelError, match="loss on the calibration samples is nan"):
        prune(subject(ResNet(), *data, loss=lambda out, wanted: out.sum() * float("nan")), DropLayers(count=1))
    with pytest.raises(ModelError, match="calibration samples"):
        prune(dataclasses.replace(subject(ResNet(), *data), batches=[]), DropLayers(count=1))


def test_blocks_the_model_needs_are_passed_over_and_said(data: tuple[Tensor, Tensor]) -> None:
    class Needs(nn.Module):
        """Reads an attribute of its first block, and keeps its last in a plain list."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = Scaled(1), Scaled(1), Scaled(1)
            self.kept = [self.last]
            self.fc = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.middle(self.first(x) * self.first.gamma)
            return self.fc(self.kept[0](x).flatten(1))

    torch.manual_seed(0)
    report = prune(subject(Needs(), *data), DropLayers(count=1)).report
    assert report.dropped == ("middle",)
    assert "'Skip' object has no attribute 'gamma'" in report.cannot["first"]
    assert "another place" in report.cannot["last"]
    with pytest.raises(ModelError, match="count is 2, only 1 could be dropped: middle"):
        prune(subject(Needs(), *data), DropLayers(count=2))


def test_a_frozen_model_can_be_ranked_and_stays_frozen(resnet: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    resnet.requires_grad_(False)
    report = prune(subject(resnet, *data), DropLayers(count=1, importance="taylor")).report
    assert all(c.importance is not None and c.importance > 0 for c in report.candidates)
    assert not any(p.requires_grad for p in resnet.parameters())
