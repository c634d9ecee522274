"""`keep = false` takes an output out of the traced model, with what computes it alone, and leaves the rest as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pocketforge.model import load
from pocketforge.model.kept import only_outputs


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.one, self.two, self.three = nn.Linear(144, 3), nn.Linear(144, 2), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.body(x)
        one = self.one(y)
        return one, self.two(y), self.three(one)


@pytest.mark.parametrize(("kept", "gone"), [((0, 2), {"two"}), ((1,), {"one", "three"}), ((2, 0), {"two"})])
def test_what_is_kept_is_as_it_was(kept: tuple[int, ...], gone: set[str]) -> None:
    torch.manual_seed(0)
    model, x = Heads().eval(), torch.randn(1, 1, 8, 8)
    smaller = only_outputs(load.trace(model, (x,)), kept)
    found = smaller.module()(x)
    assert isinstance(found, tuple) and len(found) == len(kept)
    for position, answer in zip(kept, found, strict=True):
        assert torch.equal(answer, model(x)[position])
    layers = {name.partition(".")[0] for name in smaller.state_dict}
    assert layers == {"body", "one", "two", "three"} - gone
    again = only_outputs(smaller, range(len(kept)))
    assert torch.equal(again.module()(x)[0], found[0])
