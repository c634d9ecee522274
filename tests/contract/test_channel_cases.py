"""Networks that pruning got wrong, refused or lost: what is cut equals zeros in its place, or stays with its reason."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import random_graphs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketforge.errors import ModelError
from pocketforge.model.surgery import KeepChannels
from pocketforge.pruning import channels, depgraph, graph, subject, tracing
from pocketforge.pruning.base import Pruned, Subject
from pocketforge.pruning.depgraph import Index
from pocketforge.pruning.equality import tensors_of
from pocketforge.pruning.search import Budget, Reach, SearchLimitError
from pocketforge.recipe.compress import PruneChannels
from pocketforge.recipe.model import InputSpec
from pocketforge.specs.trained import ModelSource

Forward = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """Layers by name, and a forward that uses them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def conv(inputs: int, outputs: int, kernel: int = 3, **others: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **others)


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)


def pooled(net: Any, x: Tensor) -> Tensor:
    return net.fc(x.relu().mean((2, 3)))


def pruned(module: nn.Module, shape: tuple[int, ...] = (1, 3, 6, 6), **settings: Any) -> tuple[nn.Module, Pruned]:
    """What is left of a module at ratio .5, after its answers were held against zeros in place of what is gone."""
    example = settings.pop("example", torch.randn(shape))
    batch = torch.randn(3, *shape[1:])
    batches = [((batch,), torch.zeros(3, dtype=torch.int64))] if settings.pop("samples", True) else []
    whole = module.eval()
    left = copy.deepcopy(whole)
    given = Subject(left, (example,), batches, F.cross_entropy)
    found = channels.prune(given, PruneChannels(**{"ratio": 0.5, **settings}))
    hold_against_zeros(whole, left, found, (batch,))
    return left, found


def hold_against_zeros(whole: nn.Module, left: nn.Module, found: Pruned, inputs: tuple[Tensor, ...]) -> None:
    """Norms over the kept channels only: the reference is another one than the product's."""
    for edit in found.edits:
        assert isinstance(edit, KeepChannels)
        with torch.no_grad():
            wanted, given = (
                tensors_of(module(*(x.double() if x.is_floating_point() else x.clone() for x in inputs)))
                for module in (masked(whole, edit), copy.deepcopy(left).double())
            )
        for a, b in zip(given, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * float(b.abs().max() if b.numel() else 0))


def masked(whole: nn.Module, edit: KeepChannels) -> nn.Module:
    zeros = copy.deepcopy(whole).double()
    for name, tensor in [*zeros.named_parameters(), *zeros.named_buffers()]:
        for dim, kept in edit.tensors.get(name, {}).items():
            gone = sorted(set(range(tensor.shape[dim])) - set(kept))
            tensor.data.index_fill_(dim, torch.tensor(gone), 0)
    for name, norm in zeros.named_modules():
        kept_of = edit.tensors.get(f"{name}.weight", {}).get(0)
        if isinstance(norm, (nn.GroupNorm, nn.LayerNorm)) and kept_of is not None:
            norm.forward = over_kept(norm, torch.tensor(kept_of))  # type: ignore[method-assign]
    return zeros


def over_kept(norm: Any, kept: Tensor) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        weight, bias = norm.weight[kept], None if norm.bias is None else norm.bias[kept]
        if isinstance(norm, nn.GroupNorm):
            y[:, kept] = F.group_norm(x[:, kept], norm.num_groups, weight, bias, norm.eps)
        else:
            y[..., kept] = F.layer_norm(x[..., kept], (len(kept),), weight, bias, norm.eps)
        return y

    return forward


def widths(module: nn.Module) -> dict[str, int]:
    return {n: m.weight.shape[0] for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Conv1d, nn.Linear))}


def whys(found: Pruned) -> dict[str, str]:
    return {entry.name: entry.why for entry in found.report.skipped}


def normed(*layers: nn.Module) -> nn.Module:
    module = nn.Sequential(*layers)
    for part in module.modules():
        if isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.0, 0.2)
    return module


def test_a_shuffle_behind_a_group_norm_is_seen() -> None:
    tail = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    module = normed(conv(3, 32), nn.GroupNorm(4, 32), nn.ReLU(), nn.ChannelShuffle(4), conv(32, 32), *tail)
    left, found = pruned(module)
    assert widths(left) == {"0": 32, "4": 16, "8": 5}
    assert list(whys(found)) == ["0"] and "does not see" in whys(found)["0"]


def test_groups_that_other_layers_share_keep_their_channels() -> None:
    def sliced(s: Any, x: Tensor) -> Tensor:
        return pooled(s, s.d(s.n(torch.cat([s.a(x), s.b(x)], 1)[:, 8:40]).relu()))

    _, found = pruned(
        Net(sliced, a=conv(3, 16), b=conv(3, 32), n=nn.GroupNorm(4, 32), d=conv(32, 16), fc=nn.Linear(16, 5))
    )
    assert all("do not lie evenly in the 4 groups of n" in whys(found)[name] for name in "ab")

    # A norm that is no module: its groups are seen in the numbers alone.
    def functional(s: Any, x: Tensor) -> Tensor:
        return pooled(s, s.d(F.group_norm(s.a(x), 4).relu()))

    left, found = pruned(Net(functional, a=conv(3, 32), d=conv(32, 16), fc=nn.Linear(16, 5)))
    assert "does not see" in whys(found)["a"] and widths(left)["d"] == 8


def test_a_flatten_of_channels_last_is_seen() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.fc(s.n(s.a(x).permute(0, 2, 3, 1)).relu().flatten(1))

    with pytest.raises(ModelError, match=r"nothing can be pruned \(.*a: its channels are used in a way"):
        pruned(Net(forward, a=conv(3, 16), n=nn.LayerNorm(16), fc=nn.Linear(16 * 36, 5)))


@pytest.mark.parametrize("gate", [1e-6, 0.0])
def test_a_branch_that_hardly_counts_hides_nothing(gate: float) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.a(x)
        return pooled(s, x + s.gamma * s.c(shuffled(s.b(x).relu())))

    module = Net(forward, a=conv(3, 16), b=conv(16, 32, 1), c=conv(32, 16, 1), fc=nn.Linear(16, 5))
    module.gamma = nn.Parameter(torch.full((1,), gate))
    assert "does not see" in whys(pruned(module)[1])["b"]


@pytest.mark.parametrize("samples", [True, False])
def test_zeros_to_look_at_hide_nothing(samples: bool) -> None:
    bare = {"bias": False}
    module = Net(
        lambda s, x: pooled(s, s.b(shuffled(s.a(x).relu()))),
        a=conv(3, 32, **bare),
        b=conv(32, 32, **bare),
        fc=nn.Linear(32, 5, bias=False),
    )
    assert "does not see" in whys(pruned(module, example=torch.zeros(1, 3, 6, 6), samples=samples)[1])["a"]


def test_an_example_is_samples_or_random_never_zeros() -> None:
    batches = [((torch.randn(4, 3, 6, 6),), torch.zeros(4))]

    def example(shape: list[int], dtype: Literal["float32", "int64"] = "float32") -> Tensor:
        model = ModelSource("model.py", {}, seed=0)
        (found,) = subject.example_for(model, [InputSpec(tuple(shape), "x", dtype)], {}, batches)
        assert list(found.shape) == shape and found.dtype == getattr(torch, dtype)
        return found

    assert torch.equal(example([1, 3, 6, 6]), batches[0][0][0][:1])
    assert example([1, 3, 8, 8]).std() > 0.5
    assert example([1, 3, 8, 8], "int64").sum() > 0


def gated(halves: Callable[[Tensor], Tensor], inside: int = 32) -> nn.Module:
    return Net(lambda s, x: pooled(s, s.d(halves(s.a(x)))), a=conv(3, 64, 1), d=conv(inside, 16), fc=nn.Linear(16, 5))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize(
    "module",
    [
        lambda: gated(lambda y: y.chunk(2, 1)[0] * y.chunk(2, 1)[1].sigmoid()),
        lambda: gated(lambda y: F.glu(y, 1)),
        lambda: gated(lambda y: torch.max(*y.chunk(2, 1))),
        lambda: gated(lambda y: torch.max(y[:, ::2], y[:, 1::2])),
        lambda: gated(lambda y: torch.max(torch.max(*y.chunk(4, 1)[:2]), torch.max(*y.chunk(4, 1)[2:])), 16),
        lambda: gated(lambda y: torch.cat([*y.chunk(2, 1)][::-1], 1), 64),
    ],
    ids=["gate", "glu", "maxout", "strided maxout", "maxout of four", "swapped halves"],
)
def test_what_goes_along_is_counted(module: Callable[[], nn.Module], scope: str) -> None:
    left, found = pruned(module(), scope=scope)
    assert whys(found) == {} and found.report.warnings == ()
    if scope == "local":
        assert widths(left) == {"a": 32, "d": 8, "fc": 5}
    else:  # half of 80, to the piece
        assert 32 <= widths(left)["a"] + widths(left)["d"] <= 40


def test_concatenations_that_overlap_lose_the_share_that_was_asked() -> None:
    def twice(s: Any, x: Tensor) -> Tensor:
        p, q = s.a(x).relu(), s.b(x).relu()
        return pooled(s, s.d(torch.cat([p, q], 1) + torch.cat([q, p], 1)))

    left, _ = pruned(Net(twice, a=conv(3, 16), b=conv(3, 48), d=conv(64, 16), fc=nn.Linear(16, 5)))
    assert widths(left) == {"a": 8, "b": 24, "d": 8, "fc": 5}

    def summed(s: Any, x: Tensor) -> Tensor:
        return pooled(s, s.d((torch.cat([s.a(x), s.b(x)], 1) + s.c(x)).relu()))

    module = Net(summed, a=conv(3, 16), b=conv(3, 32), c=conv(3, 48), d=conv(48, 16), fc=nn.Linear(16, 5))
    left, found = pruned(module, ratio=0.3)
    assert widths(left) == {"a": 8, "b": 24, "c": 32, "d": 8, "fc": 5} and found.report.warnings == ()
    # Where a part of a layer cannot go, the report says so.
    module = Net(
        lambda s, x: pooled(s, s.d(torch.cat([x.new_zeros(len(x), 8, 6, 6), s.a(x).relu()], 1) + s.b(x))),
        a=conv(3, 56),
        b=conv(3, 64),
        d=conv(64, 16),
        fc=nn.Linear(16, 5),
    )
    left, found = pruned(module, ratio=0.8, round_to=1)
    assert widths(left)["b"] == widths(left)["a"] + 8
    assert found.report.warnings == ("b: 19 of 64 channels left, 12.8 asked: only 56 of them can go",)


def test_parts_that_go_different_ways_stay_as_wide_as_each_other() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        p, q = s.a(x).chunk(2, 1)
        return pooled(s, s.d(torch.cat([q, s.e(p)], 1)))

    module = Net(forward, a=conv(3, 64), e=conv(32, 32, 1), d=conv(64, 16), fc=nn.Linear(16, 5))
    for ratio, width in ((0.5, 32), (0.3, 40)):
        assert widths(pruned(module, ratio=ratio)[0])["a"] == width


def test_a_scorer_that_fails_on_a_layer_skips_it() -> None:
    tail = (nn.ReLU(), conv(32, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    module = nn.Sequential(conv(3, 16), nn.ReLU(), nn.ConvTranspose2d(16, 32, 3, 2, groups=2), *tail)
    left, found = pruned(module)
    assert widths(left)["4"] == 16
    assert "this importance cannot be measured on it: IndexError" in whys(found)["2"]


def test_tied_weights_are_named() -> None:
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    module.append(nn.Sequential(nn.ReLU(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3)))
    module[4].weight = module[2].weight
    left, found = pruned(module, (1, 6))
    assert widths(left)["5.1"] == 8
    assert all("2.weight and 4.weight are one tensor (tied weights)" in whys(found)[name] for name in "024")


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's: half goes through a branch, then the halves are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.one, self.two = conv(half, half, 1), conv(half, half, groups=half)
        self.three, self.norm = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        p, q = x.chunk(2, 1)
        y = torch.cat([p, self.three(self.two(self.norm(self.one(q)).relu())).relu()], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def test_the_insides_of_shuffled_branches_are_pruned() -> None:
    units = [ShuffleUnit(32) for _ in range(3)]
    module = nn.Sequential(
        conv(3, 32), *units, conv(32, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)
    )
    left, found = pruned(module)
    assert [widths(left)[f"{i}.{name}"] for i in (1, 2, 3) for name in ("one", "two", "three")] == [8, 8, 16] * 3
    assert set(whys(found)) == {"0", "1.three", "2.three", "3.three"}


class _Endless:
    """A node that depends on itself, with indices that grow for ever."""

    handler: Any = None

    def __init__(self) -> None:
        self.target, self.dependencies = self, [self]
        self.index_mapping = [lambda found: [Index(i.idx + 1, i.root_idx) for i in found]]

    def is_triggered_by(self, _function: object) -> bool:
        return True


def test_a_search_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    endless_one: Any = _Endless()
    with pytest.raises(SearchLimitError, match="did not end within 1,000 steps"):
        Reach(endless_one, endless_one, [0], Budget(1000), lambda _: 10**9)

    # The product's: one layer's search is given up, the other layers are pruned.
    module = nn.Sequential(
        conv(3, 16), nn.ReLU(), conv(16, 24), nn.ReLU(), conv(24, 16), nn.Flatten(), nn.Linear(576, 3)
    )
    begin = Reach.__init__

    def endless(self: Reach, node: Any, root: Any, indices: Any, budget: Budget, size_of: Any) -> None:
        while getattr(node.module, "out_channels", 0) == 24:
            budget.spend()
        begin(self, node, root, indices, budget, size_of)

    monkeypatch.setattr(graph, "LAYER_STEPS", 10_000)
    monkeypatch.setattr(Reach, "__init__", endless)
    left, found = pruned(module)
    assert widths(left) == {"0": 8, "2": 24, "4": 8, "6": 3}
    assert "does not end" in whys(found)["2"]


def test_torch_prunings_own_search_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(graph: Any, node: Any, *_: Any) -> None:
        while True:
            graph.get_in_channels(node)

    maps = depgraph.torch_pruning().dependency.index_mapping
    monkeypatch.setattr(maps.shape_infer, "infer_in_channels_recursively", endless)
    monkeypatch.setattr(tracing, "NODE_STEPS", 1000)
    module = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16), nn.Flatten(), nn.Linear(576, 3))
    left, found = pruned(module)
    assert widths(left) == {"0": 8, "2": 16, "4": 3}
    assert "the search for what its channels become" in whys(found)["2"] and "does not end" in whys(found)["2"]


def test_random_graphs_are_cut_right_or_skipped_by_name() -> None:
    cut = []
    for seed in range(40):
        made = random_graphs.make(seed)
        whole, left = made.module, copy.deepcopy(made.module)
        batches = [(made.samples, torch.zeros(len(made.samples[0])))]
        tile = (1, 2)[seed % 2]
        with contextlib.suppress(NothingToPrune):
            found = prune_or_say(
                Subject(left, made.inputs, batches, F.mse_loss), PruneChannels(ratio=0.5, round_to=tile)
            )
            cut.append(seed)
            hold_against_zeros(whole, left, found, made.draw(2, seed=1))
            said = {*found.report.protected, *whys(found), *(w.split(":")[0] for w in found.report.warnings)}
            now = widths(left)
            for name, before in widths(whole).items():
                assert name in said or abs(now[name] - before / 2) <= tile, (seed, name, before, now[name])
    assert len(cut) >= 10


class NothingToPrune(Exception):
    """Said with a reason for every layer."""


def prune_or_say(given: Subject, settings: PruneChannels) -> Pruned:
    try:
        return channels.prune(given, settings)
    except ModelError as error:
        if "nothing can be pruned (" not in str(error):
            raise
        raise NothingToPrune from error


def test_the_traced_example_is_a_real_sample_whatever_zeros_were_given(tmp_path):
    from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
    from pocketforge.specs.reference import ReferenceSpec
    from pocketforge.stages.reference import load_traced

    definition = "import torch\ndef build():\n    return torch.nn.Linear(4, 2)\n"
    (tmp_path / "zeros.py").write_text(f"{definition}\ndef example_inputs():\n    return (torch.zeros(1, 4),)\n")
    (tmp_path / "none.py").write_text(definition)
    samples = np.stack([np.zeros(4), np.arange(4)]).astype(np.float32)  # the first is all alike: the second
    np.save(tmp_path / "eval_0.npy", samples)
    data = Sampled("", "regression", (), Counts(2, 0, 0, 2, 0, 0), {}, (SampleTensor((4,), "float32"),),
                   SampleTensor((), "float32"), Preprocessing(None, None, ()), None, ())  # fmt: skip
    shapes = (InputSpec((1, 4), "x"),)
    for name, inputs in (("zeros.py", ()), ("none.py", ()), ("none.py", shapes)):
        spec = ReferenceSpec(ModelSource(name, {}, 0), inputs, (), "regression", "r2")
        program = load_traced({"data": tmp_path, "data_root": tmp_path}, spec, data).program
        assert np.array_equal(program.example_inputs[0][0], samples[1:])


def test_a_mapping_that_divides_by_nothing_is_lost_not_raised():
    """As Torch-Pruning's are where it found no size: timm's lambda_resnet26t ended in its ZeroDivisionError."""

    class Node:
        dependencies: tuple[Any, ...] = ()

    class Dependency:
        index_mapping = (lambda found: [Index(i.idx // 0, i.root_idx) for i in found],)
        handler = "out"

        def is_triggered_by(self, function: Any) -> bool:
            return True

    node: Any = Node()
    dependency: Any = Dependency()
    dependency.target, node.dependencies = Node(), (dependency,)
    found = Reach(node, dependency, [0, 1], Budget(1000), lambda _: 10)
    assert list(found.lost.values()) == ["ZeroDivisionError"]


class UNet(nn.Module):
    """A segmenter's parts: transposed convolutions, group norms, and both sides of a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.above, self.below = normed(conv(3, 16), nn.GroupNorm(4, 16)), normed(conv(16, 32), nn.GroupNorm(4, 32))
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.join, self.head = normed(conv(32, 16), nn.GroupNorm(2, 16)), conv(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        above = self.above(x).relu()
        below = self.below(F.max_pool2d(above, 2)).relu()
        return self.head(self.join(torch.cat([self.up(below), above], 1)).relu())


def test_a_u_net_is_pruned_through_its_joins() -> None:
    left, found = pruned(UNet())
    assert widths(left) == {"above.0": 8, "below.0": 16, "join.0": 8, "head": 3}
    assert left.up.weight.shape[:2] == (16, 8) and left.above[1].num_groups == 4
    assert whys(found) == {} and found.report.protected == ("head",)


def test_a_detector_s_two_heads_stay_and_what_squeezes_before_them_goes_along() -> None:
    def forward(s: Any, x: Tensor) -> dict[str, Tensor]:
        y = s.body(x).relu()
        y = y * s.excite(s.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return {"boxes": s.box(y).flatten(2).transpose(1, 2), "scores": s.score(y).flatten(2).transpose(1, 2)}

    parts = {"body": conv(3, 32), "squeeze": conv(32, 16, 1), "excite": conv(16, 32, 1)}
    whole = Net(forward, **parts, box=conv(32, 4, 1), score=conv(32, 7, 1)).eval()
    left = copy.deepcopy(whole)
    batch = torch.randn(3, 3, 6, 6)
    found = channels.prune(
        Subject(left, (batch[:1],), [((batch,), torch.zeros(3))], F.mse_loss), PruneChannels(ratio=0.5)
    )
    hold_against_zeros(whole, left, found, (batch,))
    assert widths(left) == {"body": 16, "squeeze": 8, "excite": 16, "box": 4, "score": 7}


def test_a_recurrent_layer_stays_and_says_so() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.head(s.gru(s.front(x).relu().transpose(1, 2))[0])

    parts = {"front": nn.Conv1d(4, 16, 3, padding=1), "gru": nn.GRU(16, 24, batch_first=True), "head": nn.Linear(24, 5)}
    module = nn.Sequential(nn.Conv1d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 4, 1), Net(forward, **parts))
    left, found = pruned(module, (1, 2, 12))
    assert widths(left)["0"] == 8 and widths(left)["3.front"] == 16
    assert whys(found)["3.gru"] == "its state fixes the width of a recurrent layer"
    assert "3.front" in whys(found)
