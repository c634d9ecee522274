"""A step that lowers MACs and not time is caught, with the layers responsible: real files, really timed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pocketforge.measure.slow_layers import find_slow_layers
from pocketforge.model.surgery import Checkpoint
from pocketforge.outcomes.files import to_json
from pocketforge.outcomes.gains import Flag, FloatTiming, State
from pocketforge.pruning import channels
from pocketforge.pruning.base import Subject
from pocketforge.recipe.compress import PruneChannels
from pocketforge.stages.gains import find_flags
from pocketforge.training.judge import loss_and_top1, mean_loss, top1

# The toolchains deprecate parts of each other.
pytestmark = pytest.mark.filterwarnings("ignore")


class MostlyOther(nn.Module):
    """Its MACs are in two tiny linear layers, its time is in sines and cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.repeat(1, 8192)
        for _ in range(4):
            wide = torch.sin(wide) + torch.cos(wide)
        return self.last(self.first(x + 0.001 * wide[:, :8]).relu())


@pytest.fixture(scope="module")
def pruned() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    before = MostlyOther().eval()
    after = copy.deepcopy(before)
    batches = [((torch.randn(4, 8),), torch.zeros(4, dtype=torch.int64))]
    subject = Subject(after, (torch.randn(1, 8),), batches, nn.functional.cross_entropy)
    channels.prune(subject, PruneChannels(ratio=0.5))
    return before, after


def state(label: str, macs: int, ratio: tuple[float, float, float] | None, *, timed: bool = True) -> State:
    timing = FloatTiming(100, 90, 1.0, (1.0, 1.0), *(ratio or ()))
    return State(label, timed, 10, macs, 0, 10, 40, 30, 40, 30, 0.5, {"onnx": timing})


def states(ratio: tuple[float, float, float]) -> list[State]:
    return [
        state("as given", 384, None),
        state("finetune", 384, None, timed=False),
        state("prune_channels", 192, ratio),
    ]


def flags_for(pruned: tuple[nn.Module, nn.Module], ratio: tuple[float, float, float], folder: Path) -> list[Flag]:
    before, after = (Checkpoint(module, "m.py", {}, 0, []) for module in pruned)
    return find_flags(states(ratio), [before, before, after], (torch.randn(1, 8),), ["onnx"], folder)


def test_half_the_macs_and_the_same_time_is_flagged_with_its_layers(
    pruned: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    (flag,) = flags_for(pruned, (1.0, 0.98, 1.02), tmp_path)
    assert (flag.label, flag.runtime, flag.verdict, flag.macs) == ("prune_channels", "onnx", "no_gain", (384, 192))
    # A linear layer of a few hundred MACs costs a call, whatever its width.
    assert {layer.name for layer in flag.layers} <= {"first", "last"} and flag.layers
    for layer in flag.layers:
        assert layer.macs[1] < layer.macs[0] and min(layer.latency_ms) > 0 and layer.ratio[2] >= 1
    json.dumps(to_json(flag), allow_nan=False)


def test_a_faster_step_and_a_noisy_timer_blame_no_layer(pruned: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    assert flags_for(pruned, (0.5, 0.4, 0.6), tmp_path) == []
    (unsettled,) = flags_for(pruned, (0.9, 0.3, 2.7), tmp_path)
    assert unsettled.verdict == "unsettled" and unsettled.layers == ()


def test_a_layer_that_really_got_faster_is_not_blamed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(1024, n), nn.ReLU(), nn.Linear(n, 8)).eval() for n in (8192, 128)]
    blamed = find_slow_layers(nets[0], nets[1], (torch.randn(1, 1024),), "onnx", tmp_path)
    assert "0" not in {layer.name for layer in blamed}


def test_one_look_at_the_samples_says_what_two_say() -> None:
    torch.manual_seed(0)
    net, loss = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), nn.functional.cross_entropy
    batches = [((torch.randn(count, 3),), torch.randint(0, 2, (count,))) for count in (50, 7)]
    found = loss_and_top1(net, batches, loss)
    assert found == (mean_loss(net, batches, loss), top1(net, batches)) and 0 < found[1] < 1
    assert net.training
