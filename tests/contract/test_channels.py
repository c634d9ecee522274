"""Structured pruning: what is removed, why what stays stays, and that the model is what it says it is."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import small_nets
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketforge.errors import ModelError, ToolMissing
from pocketforge.model import load
from pocketforge.model.surgery import KeepChannels, apply_edits, edit_from_json, edit_to_json
from pocketforge.pruning import channels
from pocketforge.pruning.base import Pruned, Subject
from pocketforge.recipe.compress import Goal, PruneChannels

CHAIN = [["chain", 32], ["chain", 64], ["chain", 32]]
# Every kind of coupling, the layers that lose half of their channels, and a layer that must not (with the reason).
ARCHITECTURES = {
    "chain": ([["chain", 16], ["chain", 32]], {"blocks.0.body.0": 8, "blocks.1.body.0": 16}, ""),
    "residual": (
        [["chain", 16], ["residual", 32], ["residual", 16]],
        {"blocks.0.body.0": 8, "blocks.1.second.0": 8, "blocks.2.second.0": 8, "blocks.1.first.0": 16},
        "",
    ),
    "bottleneck": (
        [["chain", 16], ["bottleneck", 32], ["residual", 16]],
        {"blocks.1.shortcut.0": 16, "blocks.1.three.0": 16, "blocks.2.second.0": 16, "blocks.1.two.0": 8},
        "",
    ),
    "inverted": (
        [["chain", 16], ["inverted", 64], ["depthwise", 32]],
        {"blocks.1.expand.0": 32, "blocks.1.depthwise.0": 32, "blocks.1.project.0": 8, "blocks.2.depthwise.0": 8},
        "",
    ),
    "concat": (
        [["chain", 16], ["dense", 16], ["dense", 32], ["chain", 32]],
        {"blocks.0.body.0": 8, "blocks.1.branch.0": 8, "blocks.2.branch.0": 16},
        "",
    ),
    "grouped": ([["chain", 16], ["grouped", 32], ["chain", 32]], {"blocks.0.body.0": 8, "blocks.1.body.0": 16}, ""),
    "gate": ([["chain", 32], ["gate", 16]], {"blocks.0.body.0": 16, "blocks.1.up": 16, "blocks.1.down": 8}, ""),
    "group norm": ([["chain", 32], ["norm", 4], ["chain", 32]], {"blocks.0.body.0": 16, "blocks.2.body.0": 16}, ""),
    "option A": (
        [["chain", 16], ["padded", 32], ["residual", 32]],
        {"blocks.1.first.0": 16, "blocks.2.first.0": 16},
        "zero-padded",
    ),
    "concat, flattened": (
        [["chain", 32], ["chain", 16], ["dense", 16]],
        {"blocks.0.body.0": 16, "blocks.1.body.0": 8, "blocks.2.branch.0": 8},
        "",
    ),
    "shuffle": (
        [["chain", 16], ["chain", 32], ["shuffle", 4], ["chain", 32]],
        {"blocks.0.body.0": 8, "blocks.3.body.0": 16},
        "does not see",
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def subject_of(module: nn.Module, size: int = 8, **others: Any) -> Subject:
    generator = torch.Generator().manual_seed(1)
    example = torch.randn(1, 3, size, size, generator=generator)
    batches = [((torch.randn(6, 3, size, size, generator=generator),), torch.arange(6) % 5)]
    return Subject(module.eval(), (example,), batches, F.cross_entropy, **others)


def net(blocks: list[list[Any]], head: str = "pool", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return small_nets.build(blocks, head).eval()


def widths(module: nn.Module) -> dict[str, int]:
    return {n: m.weight.shape[0] for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


def kept_of(pruned: Pruned, tensor: str, dim: int = 0) -> tuple[int, ...]:
    (edit,) = pruned.edits
    assert isinstance(edit, KeepChannels)
    return edit.tensors[tensor][dim]


def zeroed(module: nn.Module, edit: KeepChannels) -> nn.Module:
    """The whole module, with zeros in place of all that the edit removes."""
    whole = copy.deepcopy(module)
    for name, tensor in [*whole.named_parameters(), *whole.named_buffers()]:
        for dim, kept in edit.tensors.get(name, {}).items():
            gone = [i for i in range(tensor.shape[dim]) if i not in set(kept)]
            tensor.data.index_fill_(dim, torch.tensor(gone), 0)
    return whole


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, "flatten" if "flattened" in name else "pool") for name in ARCHITECTURES),
        *((n, h) for n, h in (("residual", "flatten"), ("residual", "two"), ("concat", "two"))),
    ],
)
def test_each_architecture_is_cut_in_step_and_computes_what_zeros_would_give(name: str, head: str) -> None:
    blocks, wanted, reason = ARCHITECTURES[name]
    module = net(blocks, head)
    whole = copy.deepcopy(module)
    subject = subject_of(module)
    pruned = channels.prune(subject, PruneChannels(ratio=0.5))
    found = widths(module)
    assert {layer: found[layer] for layer in wanted} == wanted
    assert found["classifier"] == 5
    assert "classifier" in pruned.report.protected
    whys = [entry.why for entry in pruned.report.skipped]
    assert bool(whys) == bool(reason) and all(reason in why for why in whys), whys
    (edit,) = pruned.edits
    assert isinstance(edit, KeepChannels)
    batch = subject.batches[0][0][0]
    if name != "group norm":  # its statistics are of the channels that are left
        torch.testing.assert_close(module(batch), zeroed(whole, edit)(batch), rtol=1e-4, atol=1e-5)
    assert pruned.report.macs == tuple(load.count_macs(m, subject.example) for m in (whole, module))
    assert pruned.report.macs[1] < pruned.report.macs[0]
    again = apply_edits(copy.deepcopy(whole), [edit_from_json(edit_to_json(edit))])
    assert torch.equal(again(batch), module(batch))


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "bn_scale", "fpgm", "random"])
def test_every_importance_and_the_same_channels_at_every_run(importance: Any) -> None:
    kept = []
    for seed in (0, 0, 1):
        pruned = channels.prune(
            subject_of(net(CHAIN), seed=seed), PruneChannels(ratio=0.5, importance=importance, round_to=1)
        )
        kept.append(kept_of(pruned, "blocks.1.body.0.weight"))
        assert len(kept[-1]) == 32
    assert kept[0] == kept[1]
    assert (kept[0] != kept[2]) == (importance == "random")


def test_bn_scale_removes_the_smallest_scales_and_skips_layers_without_a_norm() -> None:
    module = net([["chain", 32], ["gate", 32]])
    scales = module.blocks[0].body[1].weight.detach().clone()
    pruned = channels.prune(subject_of(module), PruneChannels(ratio=0.5, importance="bn_scale"))
    largest = sorted(scales.argsort(descending=True)[:16].tolist())
    assert list(kept_of(pruned, "blocks.0.body.1.weight")) == largest
    assert [s.name for s in pruned.report.skipped] == ["blocks.1.down"]


def test_taylor_keeps_what_the_loss_depends_on() -> None:
    module = net([["chain", 16]])
    with torch.no_grad():
        module.classifier.weight[:, 8:] = 0  # these channels never reach the output, however large their filters
        module.blocks[0].body[0].weight[8:] *= 100
    by_taylor = channels.prune(subject_of(copy.deepcopy(module)), PruneChannels(ratio=0.5, importance="taylor"))
    by_l2 = channels.prune(subject_of(module), PruneChannels(ratio=0.5))
    assert kept_of(by_taylor, "blocks.0.body.0.weight") == tuple(range(8))
    assert kept_of(by_l2, "blocks.0.body.0.weight") == tuple(range(8, 16))


def test_taylor_wants_samples_and_a_scalar_loss() -> None:
    settings = PruneChannels(ratio=0.5, importance="taylor")
    subject = subject_of(net(CHAIN))
    subject.loss = lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none")
    with pytest.raises(ModelError, match=r"needs a scalar loss, found shape \[6\]"):
        channels.prune(subject, settings)
    subject.batches = []
    with pytest.raises(ModelError, match="importance needs calibration samples"):
        channels.prune(subject, settings)


@pytest.mark.parametrize("name", ["chain", "residual", "bottleneck", "inverted", "concat"])
def test_the_same_channels_as_torch_prunings_own_pruner(name: str) -> None:
    import torch_pruning as tp

    module = net(ARCHITECTURES[name][0], "flatten")
    theirs = copy.deepcopy(module)
    subject = subject_of(module)
    channels.prune(subject, PruneChannels(ratio=0.5, importance="l2", scope="local", round_to=8))
    tp.pruner.BasePruner(
        theirs,
        subject.example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        global_pruning=False,
        ignored_layers=[theirs.classifier],
        round_to=8,
    ).step()
    state = theirs.state_dict()
    assert {n: v.shape for n, v in module.state_dict().items()} == {n: v.shape for n, v in state.items()}
    assert all(torch.equal(value, state[n]) for n, value in module.state_dict().items())


def test_global_takes_more_where_channels_matter_less_and_at_most_max_ratio() -> None:
    module = net([["chain", 64], ["chain", 64], ["chain", 64]])
    with torch.no_grad():  # most of the middle layer's channels are next to nothing, in all that they touch
        for tensor in (module.blocks[1].body[0].weight, module.blocks[1].body[1].weight):
            tensor[8:] *= 1e-3
        module.blocks[2].body[0].weight[:, 8:] *= 1e-3
    after = {}
    for scope in ("local", "global"):
        copied = copy.deepcopy(module)
        channels.prune(subject_of(copied), PruneChannels(ratio=0.25, scope=scope, max_ratio=0.5))  # type: ignore[arg-type]
        after[scope] = [widths(copied)[f"blocks.{i}.body.0"] for i in range(3)]
    assert after["local"] == [48, 48, 48]
    assert after["global"][1] == 32
    assert sum(after["global"]) == 144  # a quarter of 192 is gone, to the channel


def test_ratios_by_name_and_the_rest_by_ratio() -> None:
    module = net(CHAIN)
    channels.prune(subject_of(module), PruneChannels(ratios={"blocks.1": 0.75}))
    assert [widths(module)[f"blocks.{i}.body.0"] for i in range(3)] == [32, 16, 32]
    module = net(CHAIN)
    channels.prune(subject_of(module), PruneChannels(ratio=0.5, ratios={"blocks.1.*": 0.0}))
    assert [widths(module)[f"blocks.{i}.body.0"] for i in range(3)] == [16, 64, 16]
    module = net(CHAIN)
    channels.prune(subject_of(module, ratios={"blocks.0.body.0": 0.5}), PruneChannels(ratio="auto"))
    assert [widths(module)[f"blocks.{i}.body.0"] for i in range(3)] == [16, 64, 32]


def test_protected_layers_keep_their_outputs() -> None:
    module = net(CHAIN)
    pruned = channels.prune(subject_of(module), PruneChannels(ratio=0.5, protect=("blocks.1",)))
    assert [widths(module)[f"blocks.{i}.body.0"] for i in range(3)] == [16, 64, 16]
    assert pruned.report.protected == ("blocks.1.body.0", "classifier")


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ModelError, match=r"nothing can be pruned \(protected: blocks.0.body.0, .*classifier"):
        channels.prune(subject_of(net(CHAIN)), PruneChannels(ratio=0.5, protect=("blocks.*",)))
    with pytest.raises(ModelError, match=r"ratio 0.99 would empty layer blocks.0.body.0, which has 32 channels"):
        channels.prune(subject_of(net(CHAIN)), PruneChannels(ratio=0.99))
    with pytest.raises(ModelError, match=r"protect: 'block.9' fits no layer"):
        channels.prune(subject_of(net(CHAIN)), PruneChannels(ratio=0.5, protect=("block.9",)))
    with pytest.raises(ModelError, match=r"ratios: 'blocks.7' fits no layer"):
        channels.prune(subject_of(net(CHAIN)), PruneChannels(ratios={"blocks.7": 0.5}))


def test_a_model_that_answers_class_numbers_is_told_to_answer_scores() -> None:
    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).argmax(1)

    largest = Largest()
    asked = Subject(largest, (torch.ones(1, 4),), [((torch.ones(2, 4),), torch.zeros(2))], lambda y, _: y.sum())
    with pytest.raises(ModelError, match="no gradient leads from the model's outputs") as caught:
        channels.prune(asked, PruneChannels(ratio=0.5))
    assert "argmax" in caught.value.hint


def test_layers_of_few_channels_are_left_alone_not_emptied() -> None:
    module = net([["chain", 8], ["chain", 24]])
    pruned = channels.prune(subject_of(module), PruneChannels(ratio=0.9))
    assert [widths(module)[f"blocks.{i}.body.0"] for i in range(2)] == [8, 8]
    assert pruned.report.skipped[0].name == "blocks.0.body.0"
    assert "8 is the least that round_to 8 leaves" in pruned.report.skipped[0].why


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ToolMissing, match=r"pip install .*torch-pruning==1\.6\.1"):
        channels.prune(subject_of(net(CHAIN)), PruneChannels(ratio=0.5))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("metric", ["macs", "parameters"])
def test_a_goal_is_met_with_the_largest_model(scope: Any, metric: Any) -> None:
    blocks = [["chain", 32], ["residual", 64], ["bottleneck", 64], ["chain", 64]]
    module = net(blocks)
    pruned = channels.prune(subject_of(module), PruneChannels(scope=scope, goal=Goal(metric=metric, removed=0.4)))
    before, after = getattr(pruned.report, metric)
    goal = pruned.report.goal
    assert goal is not None and (goal.metric, goal.before, goal.reached) == (metric, before, after)
    assert goal.limit == pytest.approx(0.6 * before) and after <= goal.limit
    assert after > 0.5 * before  # 8 channels of one layer are less than a tenth of this model


def test_a_goal_that_is_met_already_removes_nothing_and_one_out_of_reach_says_the_least() -> None:
    module = net(CHAIN)
    easy = channels.prune(subject_of(module), PruneChannels(goal=Goal(metric="macs", limit=1e9)))
    assert easy.edits == [] and easy.report.layers == ()
    smallest = net(CHAIN)
    channels.prune(subject_of(smallest), PruneChannels(ratios={"blocks.0": 0.9, "blocks.2": 0.9}))
    least = load.count_macs(smallest, subject_of(smallest).example)
    settings = PruneChannels(goal=Goal(metric="macs", limit=1000), protect=("blocks.1",))
    with pytest.raises(ModelError, match=rf"goal macs <= 1000 cannot be met: .*leaves {least} \(protected: blocks.1"):
        channels.prune(subject_of(module), settings)


def test_a_latency_goal_is_measured_on_a_few_candidates() -> None:
    tried: list[int] = []

    def latency(module: nn.Module) -> float:
        tried.append(sum(widths(module).values()))
        return tried[-1] / 10

    module = net(CHAIN)
    settings = PruneChannels(goal=Goal(metric="latency_ms", limit=10.0))
    pruned = channels.prune(subject_of(module, measure=latency), settings)
    assert len(tried) <= 8
    assert pruned.report.goal and pruned.report.goal.reached == sum(widths(module).values()) / 10 <= 10.0
    with pytest.raises(ModelError, match="a goal on latency_ms cannot be measured here"):
        channels.prune(subject_of(net(CHAIN)), settings)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_several_steps_end_where_one_does(scope: Any) -> None:
    module = net(CHAIN)
    between = []
    for step in range(1, 5):
        channels.prune(subject_of(module, step=step, steps=4), PruneChannels(ratio=0.5, scope=scope, steps=4))
        between.append(sum(widths(module).values()) - 5)
    assert between == sorted(between, reverse=True) and between[0] > between[-1]
    assert between[-1] == 64
    if scope == "local":
        assert [widths(module)[f"blocks.{i}.body.0"] for i in range(3)] == [16, 32, 16]


def test_a_goal_in_steps_takes_the_same_from_each() -> None:
    module = net([["chain", 64], ["chain", 128], ["chain", 64]])
    macs = [load.count_macs(module, subject_of(module).example)]
    for step in range(1, 4):
        settings = PruneChannels(scope="global", goal=Goal(metric="macs", removed=0.6), steps=3)
        pruned = channels.prune(subject_of(module, step=step, steps=3), settings)
        macs.append(pruned.report.macs[1])
    shares = [m / macs[0] for m in macs]
    assert shares[1:] == pytest.approx([0.8, 0.6, 0.4], abs=0.05)
    assert shares[3] <= 0.41


def test_masks_are_cut_with_the_weights() -> None:
    module = net(CHAIN)
    name = "blocks.1.body.0.weight"
    mask = (torch.rand_like(module.get_parameter(name)) > 0.5).float()
    with torch.no_grad():
        module.get_parameter(name).mul_(mask)
    pruned = channels.prune(subject_of(module, masks={name: mask}), PruneChannels(ratio=0.5))
    cut = pruned.masks[name]
    assert cut.shape == module.get_parameter(name).shape == (32, 16, 3, 3)
    assert torch.equal(module.get_parameter(name) != 0, cut != 0)


class Fused(nn.Module):
    """timm's attention: one layer for query, key and value."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, dim // heads, dim
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, length, self.attn_dim))


class Separate(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = heads, dim // heads, dim
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(*x.shape[:2], self.num_attention_heads, self.attention_head_size).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        y = (q @ k.transpose(2, 3) / self.attention_head_size**0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(*x.shape[:2], self.all_head_size))


class Builtin(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mha(x, x, x, need_weights=False)[0]
        return y


class Encoder(nn.Module):
    """A vision transformer: patches, positions, two blocks, a classifier."""

    def __init__(self, attention: type[nn.Module], dim: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 4, dim))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(dim),
                    "attention": attention(dim, heads),
                    "norm2": nn.LayerNorm(dim),
                    "up": nn.Linear(dim, 2 * dim),
                    "down": nn.Linear(2 * dim, dim),
                }
            )
            for _ in range(2)
        )
        self.norm, self.classifier = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = x + block["attention"](block["norm1"](x))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return self.classifier(self.norm(x).mean(1))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("attention", [Fused, Separate])
def test_whole_heads_and_hidden_units_go_and_the_embedding_stays(attention: type[nn.Module], scope: Any) -> None:
    torch.manual_seed(0)
    module = Encoder(attention).eval()
    whole = copy.deepcopy(module)
    subject = subject_of(module)
    pruned = channels.prune(subject, PruneChannels(ratio=0.5, head_ratio=0.5, scope=scope))
    heads = {entry.name: entry.after for entry in pruned.report.layers if entry.heads}
    assert sum(heads.values()) + 4 * (2 - len(heads)) == 4
    assert sum(widths(module)[f"blocks.{i}.up"] for i in range(2)) == 64
    assert module.positions.shape == (1, 4, 32) and widths(module)["patches"] == 32
    assert "embedding stream" in pruned.report.skipped[0].why
    (edit,) = pruned.edits
    assert isinstance(edit, KeepChannels)
    batch = subject.batches[0][0][0]
    torch.testing.assert_close(module(batch), zeroed(whole, edit)(batch), rtol=1e-4, atol=1e-5)
    for name, left in heads.items():
        attributes = edit.attributes[name]
        assert left in attributes.values() and (left * 8 in attributes.values() or left == 4)
        reader = module.get_submodule(name + (".proj" if attention is Fused else ".out"))
        assert reader.in_features == 8 * left
    exported = load.trace(module, subject.example).module()
    torch.testing.assert_close(exported(*subject.example), module(*subject.example))


def test_heads_alone_and_heads_that_cannot_go() -> None:
    torch.manual_seed(0)
    module = Encoder(Fused).eval()
    channels.prune(subject_of(module), PruneChannels(head_ratio=0.25))
    assert widths(module)["blocks.0.attention.qkv"] == 3 * 24 and widths(module)["blocks.0.up"] == 64
    with pytest.raises(ModelError, match=r"head_ratio 0.9 would remove all 3 heads of blocks.0.attention"):
        channels.prune(subject_of(module), PruneChannels(head_ratio=0.9))
    module = Encoder(Builtin).eval()
    pruned = channels.prune(subject_of(module), PruneChannels(ratio=0.5, head_ratio=0.5))
    assert widths(module)["blocks.0.up"] == 32
    assert [e.name for e in pruned.report.skipped if "MultiheadAttention" in e.why] == [
        "blocks.0.attention.mha",
        "blocks.1.attention.mha",
    ]


class Normed(nn.Module):
    """Layer norm over many channels, few of which stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(12, 256), nn.LayerNorm(256), nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu())


def test_layer_norm_keeps_its_channels_in_order() -> None:
    torch.manual_seed(0)
    module = Normed().eval()
    with torch.no_grad():
        module.norm.weight.copy_(torch.rand(256) + 0.5)
    weight, norm = module.first.weight.detach().clone(), module.norm.weight.detach().clone()
    subject = Subject(module, (torch.randn(1, 12),), [], F.cross_entropy)
    pruned = channels.prune(subject, PruneChannels(ratio=0.95))
    kept = list(kept_of(pruned, "first.weight"))
    assert len(kept) == 8 and kept == sorted(kept)
    assert torch.equal(module.norm.weight, norm[kept]) and torch.equal(module.first.weight, weight[kept])
    assert module.norm.normalized_shape == (8,)
