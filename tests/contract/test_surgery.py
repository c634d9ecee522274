"""Edits as data: any sequence of surgery gives a model that runs, costs what its shapes say, and loads again."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_nets
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from release_build import SOURCES
from torch import Tensor, nn
from torch.nn import functional as F

from pocketforge.commands.model import summarize_checkpoint
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model import load
from pocketforge.model.checkpoint_files import CheckpointInput, copy_portable
from pocketforge.model.surgery import (
    Checkpoint,
    Edit,
    KeepChannels,
    Replace,
    apply_edits,
    edit_from_json,
    edit_to_json,
    keep_indices,
    keep_masks,
    load_checkpoint,
    record_kept,
    save_checkpoint,
)
from pocketforge.pruning import channels
from pocketforge.pruning.base import Subject
from pocketforge.recipe.compress import PruneChannels

EXAMPLE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def net(blocks: list[list[Any]], head: str = "pool", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return small_nets.build(blocks, head).eval()


def macs_by_shapes(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers, from weights and output sizes alone."""
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        # One output value takes a product with each weight of its filter: inputs / groups × kernel.
        total += output.numel() * math.prod(weight.shape[1:])

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    return total


def says_its_shapes(module: nn.Module) -> None:
    """The layers' own attributes, which exporters and printouts use, agree with their weights."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
        elif isinstance(layer, nn.Linear):
            assert layer.weight.shape == (layer.out_features, layer.in_features)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_mean.shape == (layer.num_features,)


WIDTH = st.sampled_from([8, 12, 16, 24])
BLOCK = st.one_of(
    *(
        st.tuples(st.just(kind), WIDTH).map(list)
        for kind in ("chain", "down", "residual", "bottleneck", "inverted", "depthwise", "dense", "grouped", "gate")
    )
)
STEP = st.one_of(
    st.fixed_dictionaries(
        {
            "ratio": st.floats(0.1, 0.7),
            "importance": st.sampled_from(["l1", "l2", "random", "fpgm", "bn_scale", "taylor"]),
            "round_to": st.sampled_from([1, 2, 4, 8]),
            "scope": st.sampled_from(["local", "global"]),
        }
    ),
    st.integers(0, 20),  # the block to skip, of those that keep their shape
)


def surgery(module: nn.Module, steps: list[Any]) -> list[Edit]:
    """Make the steps; those that a network cannot take any more say so and change nothing."""
    edits: list[Edit] = []
    batch = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    for step in steps:
        if isinstance(step, int):
            keep_shape = (small_nets.Residual, small_nets.Inverted, small_nets.Gate)
            blocks = [n for n, m in module.named_modules() if isinstance(m, keep_shape)]
            if blocks:
                edit = Replace(blocks[step % len(blocks)], {"kind": "skip"})
                apply_edits(module, [edit])
                edits.append(edit)
            continue
        subject = Subject(module, (EXAMPLE,), [((batch,), torch.arange(4) % 5)], F.cross_entropy, seed=1)
        try:
            edits += channels.prune(subject, PruneChannels(**step)).edits
        except ModelError as error:
            assert "would empty layer" in error.message or "nothing can be pruned" in error.message  # noqa: PT017
    return edits


@given(
    st.integers(1, 3).flatmap(lambda n: st.lists(BLOCK, min_size=n, max_size=n + 1)),
    st.lists(STEP, min_size=1, max_size=3),
    st.sampled_from(["pool", "flatten", "two"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_surgery_runs_counts_and_loads_again(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[Any]], steps: list[Any], head: str
) -> None:
    folder = tmp_path_factory.mktemp("surgery")
    blocks = [["chain", 16], *blocks]
    module = net(blocks, head)
    before = macs_by_shapes(module, EXAMPLE)
    edits = surgery(module, steps)
    with torch.no_grad():
        outputs = module(EXAMPLE)
    assert outputs.shape == (1, 5) and torch.isfinite(outputs).all()
    says_its_shapes(module)
    assert load.count_macs(module, (EXAMPLE,)) == macs_by_shapes(module, EXAMPLE) <= before
    assert [edit_from_json(json.loads(json.dumps(edit_to_json(edit)))) for edit in edits] == [
        edit if isinstance(edit, Replace) else KeepChannels(edit.tensors, json.loads(json.dumps(edit.attributes)))
        for edit in edits
    ]
    shutil.copyfile(small_nets.__file__, folder / "small_nets.py")
    checkpoint = Checkpoint(module, "small_nets.py", {"blocks": blocks, "head": head}, 0, edits)
    save_checkpoint(checkpoint, folder / "a", resolve=lambda name: folder / name)
    loaded = load_checkpoint(folder / "a")
    with torch.no_grad():
        assert torch.equal(loaded.module(EXAMPLE), outputs)
    save_checkpoint(loaded, folder / "b")
    for name in ("checkpoint.json", "model.safetensors"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    shutil.rmtree(folder)


def test_a_fresh_process_loads_a_checkpoint_in_three_lines_without_the_pruning_library(tmp_path: Path) -> None:
    args = {"blocks": [["chain", 16], ["residual", 32], ["chain", 32]]}
    module = net(args["blocks"])
    edits = surgery(module, [{"ratio": 0.5}, 0])
    assert [type(edit) for edit in edits] == [KeepChannels, Replace]
    definition = Path(small_nets.__file__)
    save_checkpoint(Checkpoint(module, definition.name, args, 0, edits), tmp_path / "saved", lambda _: definition)
    three_lines = "from pocketforge.model.surgery import load_checkpoint\nmodel = load_checkpoint('saved').module\n"
    three_lines += "output = model(torch.ones(1, 3, 8, 8))\n"
    script = f"import sys, torch\nsys.modules['torch_pruning'] = None\n{three_lines}print(output.tolist())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wanted = module(torch.ones(1, 3, 8, 8))
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), wanted, rtol=1e-5, atol=1e-6)


def test_skip_leaves_nothing_in_the_traced_graph() -> None:
    module = net([["chain", 16], ["residual", 16], ["chain", 16]])
    whole = str(load.trace(module, (EXAMPLE,)).graph).count("aten.conv2d.default")
    apply_edits(module, [Replace("blocks.1", {"kind": "skip"})])
    assert str(load.trace(module, (EXAMPLE,)).graph).count("aten.conv2d.default") == whole - 2


def test_record_kept_finds_what_any_selection_kept_and_leaves_the_module_alone() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def prune(twin: nn.Module) -> None:
        first, norm, last = twin
        first.weight = nn.Parameter(first.weight[[0, 2, 3]][:, [1, 5]])
        first.bias = nn.Parameter(first.bias[[0, 2, 3]])
        norm.running_mean = norm.running_mean[[0, 2, 3]]
        last.weight = nn.Parameter(last.weight[:, [0, 2, 3]])
        first.out_features = norm.num_features = last.in_features = 3

    edit = record_kept(module, prune)
    assert edit.tensors == {
        "0.weight": {0: (0, 2, 3), 1: (1, 5)},
        "0.bias": {0: (0, 2, 3)},
        "1.running_mean": {0: (0, 2, 3)},
        "2.weight": {1: (0, 2, 3)},
    }
    assert edit.attributes == {"0": {"out_features": 3}, "1": {"num_features": 3}, "2": {"in_features": 3}}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

    def scatter(twin: nn.Module) -> None:
        weight = twin[0].weight
        twin[0].weight = nn.Parameter(torch.stack([weight[0, :2], weight[1, 1:3]]))

    with pytest.raises(ValueError, match=r"pruning 0.weight did not select whole slices of dimension 1"):
        record_kept(module, scatter)


def test_edits_that_do_not_fit_the_module_are_refused() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4))

    with pytest.raises(ModelError, match=r"no tensor '1.weight'.*\n.*has its definition changed"):
        apply_edits(model(), [KeepChannels({"1.weight": {0: (0,)}})])
    with pytest.raises(ModelError, match=r"no tensor '0.out_features'"):
        apply_edits(model(), [KeepChannels({"0.out_features": {0: (0,)}})])
    with pytest.raises(ModelError, match=r"keeps index 4 of dimension 0 of 0.weight, which has shape \[4, 4\]"):
        apply_edits(model(), [KeepChannels({"0.weight": {0: (0, 4)}})])
    with pytest.raises(ModelError, match=r"dimension 2 of 0.bias"):
        apply_edits(model(), [KeepChannels({"0.bias": {2: (0,)}})])
    with pytest.raises(ModelError, match=r"keeps index -1 of dimension 0 of 0.weight"):
        apply_edits(model(), [KeepChannels({"0.weight": {0: (-1, 0)}})])
    with pytest.raises(ModelError, match=r"no module '7', which the checkpoint edits"):
        apply_edits(model(), [KeepChannels({}, {"7": {"out_features": 2}})])
    with pytest.raises(ModelError, match=r"no module 'block.3', which the checkpoint edits"):
        apply_edits(model(), [Replace("block.3", {"kind": "skip"})])
    with pytest.raises(ModelError, match=r"replaces 0 by 'magic'; known: skip, linear, conv2d"):
        apply_edits(model(), [Replace("0", {"kind": "magic"})])
    with pytest.raises(ModelError, match=r"replaces 0 by 'linear'.*out_features"):
        apply_edits(model(), [Replace("0", {"kind": "linear", "in_features": 4})])


def test_masks_follow_edits_and_masks_of_gone_modules_are_dropped() -> None:
    module = net([["chain", 16], ["residual", 16]])
    masks = {n: torch.arange(p.numel()).view_as(p) for n, p in module.named_parameters() if p.ndim == 4}
    edits: list[Edit] = [
        KeepChannels({"blocks.0.body.0.weight": {0: (1, 3)}}),
        Replace("blocks.1", {"kind": "skip"}),
    ]
    apply_edits(module, edits)
    found = keep_masks(masks, edits, module)
    assert list(found) == ["blocks.0.body.0.weight"]
    assert torch.equal(found["blocks.0.body.0.weight"], masks["blocks.0.body.0.weight"][[1, 3]])


BY_NAME = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, *, batch):
        return self.head(batch["image"].flatten(1)) + batch["bias"]


def build():
    return Net()
"""
EXAMPLES = """

def example_inputs():
    return {"batch": {"bias": torch.zeros(1, 2), "image": torch.zeros(1, 1, 2, 2)}}
"""


@pytest.mark.parametrize(("more", "said"), [("", True), (EXAMPLES, False)], ids=["recipe", "example_inputs"])
def test_a_checkpoint_of_a_model_that_is_fed_by_name_is_shown(tmp_path: Path, more: str, said: bool) -> None:
    """Its inputs go to the arguments that the recipe says, or example_inputs(), as in the build."""
    (tmp_path / "model.py").write_text(BY_NAME + more)
    module = load.build_model("model.py", {}, lambda name: tmp_path / name)
    step = Checkpoint(module, "model.py", {}, 0, [])
    save_checkpoint(step, tmp_path / "step", resolve=lambda name: tmp_path / name)
    inputs = [
        CheckpointInput("batch_bias", (1, 2), "float32", "batch.bias" if said else ""),
        CheckpointInput("batch_image", (1, 1, 2, 2), "float32", "batch.image" if said else ""),
    ]
    copy_portable(tmp_path / "step", tmp_path / "own", resolver(tmp_path / "step"), inputs)
    shown = summarize_checkpoint(tmp_path / "own")
    assert shown["inputs"] == [{"shape": [1, 2], "dtype": "float32"}, {"shape": [1, 1, 2, 2], "dtype": "float32"}]
    assert [layer["output"] for layer in shown["layers"]] == [[1, 2]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a checkpoint: there is no checkpoint.json"),
        ("{", "cannot be read"),
        ("[]", "has format None, this version reads 1"),
        ('{"format": 9}', "has format 9, this version reads 1"),
        ('{"format": 1, "definition": "m.py", "args": {}}', "is not whole: seed, edits missing"),
        ('{"format": 1, "definition": "m.py", "args": {}, "seed": 0, "edits": [{"edit": "fold"}]}', "of kind 'fold'"),
        ('{"format": 1, "definition": "m.py", "args": {}, "seed": 0, "edits": [3]}', "holds a broken edit"),
        ('{"format": 1, "definition": "m.py", "args": {}, "seed": 0, "edits": 3}', "is not whole: edits missing"),
        (
            '{"format": 1, "definition": "m.py", "args": {}, "seed": 0, '
            '"edits": [{"edit": "keep_channels", "tensors": {"a": {"x": [0]}}, "attributes": {}}]}',
            "holds a broken edit",
        ),
        ('{"format": 1, "definition": "m.py", "args": {}, "seed": 0, "edits": []}', "there is no file"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "m.py").write_text("from torch import nn\ndef build(): return nn.Linear(2, 2)\n")
    if text is not None:
        (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(tmp_path)


def test_keep_indices_copies() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    kept = keep_indices(tensor, {1: (0, 2)})
    kept.zero_()
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
