"""Models that end in softmax: found by the last layer, in the graph and while they train."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketforge.model import load
from pocketforge.training.shares import outputs_of_shares, while_training


class Net(nn.Module):
    def __init__(self, end: str) -> None:
        super().__init__()
        self.end = end
        self.body, self.norm, self.head = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.share = nn.Softmax(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.head(self.norm(self.body(x)))
        match self.end:
            case "softmax":
                last = self.share(scores)
            case "moved":
                last = functional.softmax(scores[:, :, None], 1).squeeze(2).clone()
            case "log_softmax":
                last = functional.log_softmax(scores, 1)
            case "sigmoid":
                last = scores.sigmoid()
            case "inside":
                last = self.share(scores) * scores
            case "deployed":
                last = scores if self.training else self.share(scores)
            case _:
                last = scores
        return scores, last


@pytest.mark.parametrize(
    ("end", "kind", "training"),
    [
        ("softmax", "softmax", True),
        ("moved", "softmax", True),
        ("sigmoid", "sigmoid", True),
        ("deployed", "softmax", False),
        ("log_softmax", "", False),
        ("inside", "", False),
        ("scores", "", False),
    ],
)
def test_the_last_layer_is_named(end: str, kind: str, training: bool) -> None:
    torch.manual_seed(0)
    model, x = Net(end).eval(), torch.randn(1, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = outputs_of_shares(load.trace(model, (x,)))
    assert {place: each.kind for place, each in found.items()} == ({1: kind} if kind else {})
    if kind:
        assert "test_shares.py:" in found[1].layer and found[1].classes == (3 if kind == "softmax" else 0)
    assert list(while_training(model, (x,), found)) == ([1] if training else [])
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_that_no_line_of_the_user_calls_has_none_of_ours() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)).eval()
    (found,) = outputs_of_shares(load.trace(net, (torch.randn(1, 4),))).values()
    assert found.layer == "softmax of '1'"


def test_log_softmax_costs_what_scores_do() -> None:
    """Why it is no fault: shares of its values are those of the scores."""
    torch.manual_seed(0)
    scores, labels = torch.randn(8, 5), torch.arange(8) % 5
    losses = [functional.cross_entropy(each, labels) for each in (scores, scores.log_softmax(1))]
    assert torch.allclose(*losses)
    assert functional.cross_entropy(torch.eye(10), torch.arange(10)).item() == pytest.approx(1.4612, abs=1e-4)
