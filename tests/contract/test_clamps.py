"""A ReLU6 is part of its layer: one quantization behind it, none between."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from pocketforge.metrics import parity  # noqa: E402
from pocketforge.quantization.weighted import op_name  # noqa: E402
from pocketforge.recipe.quantize import Override, Quantize  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Wide(nn.Module):
    """Its first layer's outputs go far beyond 6: levels spent on them are lost."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 4, 3)
        self.last = nn.Linear(4 * 8 * 8, 5)
        with torch.no_grad():
            self.first.weight.mul_(20)

    def forward(self, x):
        x = nn.functional.relu6(self.norm(self.first(x)))
        return nn.functional.hardtanh(self.last(self.second(x).flatten(1)), -1.0, 1.0)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [np.random.default_rng(0).normal(size=(40, 3, 12, 12)).astype(np.float32)]


def quantized(images, **keys):
    # ExecuTorch's partitioner comes along: not at every worker's collection.
    from pocketforge.quantization.pt2e import quantize_graph

    net = Wide().eval()
    program = torch.export.export(net, (torch.from_numpy(images[0][:1]),))
    _, unfolded = quantize_graph(program, images, Quantize("static_int8", **keys))
    with torch.no_grad():
        wanted = net(torch.from_numpy(images[0])).numpy()
        found = np.concatenate([unfolded(torch.from_numpy(images[0][i : i + 1])).numpy() for i in range(40)])
    return unfolded, parity(found, wanted).sqnr_db


def test_a_clamp_is_quantized_once_behind_it(images):
    graph, sqnr_db = quantized(images)
    clamps = [node for node in graph.graph.nodes if op_name(node) in ("hardtanh", "relu6")]
    assert len(clamps) == 2
    for clamp in clamps:
        assert op_name(clamp.args[0]) in ("conv2d", "linear"), "nothing between the layer and its clamp"
        assert all("quantize_per_tensor" in str(user.target) for user in clamp.users)
    scale = next(iter(clamps[0].users)).args[1]
    assert scale == pytest.approx(6 / 255, rel=0.02), "the levels lie over what the clamp lets through"
    assert sqnr_db > 30


def test_a_layer_that_stays_float_keeps_its_clamp_float(images):
    graph, _ = quantized(images, overrides=(Override("first"),))
    first = next(node for node in graph.graph.nodes if op_name(node) == "conv2d")
    assert first.args[0].op == "placeholder" and first.args[1].op == "get_attr", "nothing of it is quantized"
    clamp = next(node for node in graph.graph.nodes if op_name(node) in ("hardtanh", "relu6"))
    assert op_name(clamp.args[0]) in ("conv2d", "batch_norm")
