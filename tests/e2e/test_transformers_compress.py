"""A transformer from a transformers:DIR folder through channel and head pruning, fine-tuning and export."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from conftest import Done, in_process
from onnx import numpy_helper
from torchvision_ops import usable_torchvision

from pocketforge.commands.train import train_from_recipe
from pocketforge.model.surgery import load_checkpoint
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.toml import load_recipe

HEADS, HEAD_SIZE, HIDDEN, FFN, LAYERS, LENGTH = 4, 8, 32, 64, 2, 16

# Real labels: 16 ink levels of a digit, each 2×2 pixels, as tokens; the mask leaves out blank places, as padding is.
DATA = """
import numpy as np
from sklearn.datasets import load_digits

def tokens():
    digits = load_digits()
    ink = digits.images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16).round().astype(np.int64)
    mask = (ink > 0).astype(np.int64)
    mask[:, 0] = 1  # the first place is what the classifier reads
    return (ink + 1, mask), (digits.target < 5).astype(np.int64)
"""

RECIPE = f"""
name = "tiny_distilbert"

[model]
definition = "transformers:bert"
weights = "weights.safetensors"

[[model.input]]
name = "input_ids"
shape = [1, {LENGTH}]
dtype = "int64"

[[model.input]]
name = "attention_mask"
shape = [1, {LENGTH}]
dtype = "int64"

[data]
source = "data.py:tokens"

[[compress]]
type = "prune_channels"
ratios = {{ "*.ffn.lin1" = 0.5 }}
head_ratio = 0.5

[[compress]]
type = "finetune"
epochs = 6
lr = 2e-3

[[target]]
name = "bert_onnx"
runtime = "onnx"

[[target]]
name = "bert_tflite"
runtime = "tflite"

[[budget]]
metric = "accuracy_top1"
limit = 0.75
"""


@dataclass(frozen=True)
class Bert:
    folder: Path
    done: Done
    before: float

    @property
    def report(self) -> Any:
        return json.loads((self.folder / "out" / "report.json").read_text("utf-8"))

    def file(self, suffix: str) -> Path:
        (found,) = (self.folder / "out" / "release").glob(f"*{suffix}")
        return found


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Bert:
    """A trained tiny DistilBERT, built by the command line."""
    usable_torchvision()  # transformers imports it where it is installed
    from transformers import DistilBertConfig

    folder = tmp_path_factory.mktemp("bert")
    # Weights drawn wider than is usual for large models: so small a one learns in seconds from them.
    DistilBertConfig(
        vocab_size=32, dim=HIDDEN, n_heads=HEADS, n_layers=LAYERS, hidden_dim=FFN, max_position_embeddings=LENGTH,
        num_labels=2, dropout=0.0, attention_dropout=0.0, initializer_range=0.15,
        architectures=["DistilBertForSequenceClassification"],
    ).save_pretrained(folder / "bert")  # fmt: skip
    (folder / "data.py").write_text(DATA)
    (folder / "recipe.toml").write_text(RECIPE)
    trained = train_from_recipe(
        load_recipe(folder / "recipe.toml"), Finetune(epochs=10, lr=4e-3, batch_size=32, warmup_epochs=1)
    )
    # Stages declare no operators for a torchvision that cannot load: to them it is as not there.
    done = in_process(
        "build", "recipe.toml", "--out", "out", "--progress", "none",
        cache=folder / "cache", cwd=folder, hidden=["torchvision"],
    )  # fmt: skip
    return Bert(folder, done, trained.eval_accuracy)


def test_it_builds_for_two_runtimes(bert):
    # ExecuTorch takes it as well: it is left out for its time only.
    assert bert.done.code == 0, bert.done.stdout + bert.done.stderr
    assert bert.report["verdict"] == "PASS"
    assert sorted(t["runtime"] for t in bert.report["targets"] if t["status"] == "built") == ["onnx", "tflite"]


def test_heads_and_ffn_channels_are_gone_from_the_model(bert):
    checkpoint = load_checkpoint(bert.folder / "out" / "checkpoint")
    assert checkpoint.edits
    for layer in checkpoint.module.model.distilbert.transformer.layer:
        attention = layer.attention
        kept = HEADS // 2 * HEAD_SIZE
        assert attention.n_heads == HEADS // 2 and attention.attention_head_size == HEAD_SIZE
        for linear in (attention.q_lin, attention.k_lin, attention.v_lin):
            assert tuple(linear.weight.shape) == (kept, HIDDEN)
        assert tuple(attention.out_lin.weight.shape) == (HIDDEN, kept)
        assert tuple(layer.ffn.lin1.weight.shape) == (FFN // 2, HIDDEN)
        assert tuple(layer.ffn.lin2.weight.shape) == (HIDDEN, FFN // 2)


def test_heads_are_gone_from_the_onnx_file(bert):
    model = onnx.shape_inference.infer_shapes(onnx.load(bert.file(".onnx")))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    softmaxes = [shapes[n.input[0]] for n in model.graph.node if n.op_type == "Softmax"]
    assert softmaxes == [[1, HEADS // 2, LENGTH, LENGTH]] * LAYERS
    # No weight of the original width is left, in whatever orientation.
    weights = [tuple(sorted(numpy_helper.to_array(i).shape)) for i in model.graph.initializer if len(i.dims) == 2]
    assert (HIDDEN, FFN) not in weights and weights.count((16, 32)) + weights.count((32, 32)) >= 6 * LAYERS


def test_heads_are_gone_from_the_tflite_file(bert):
    interpreter = Interpreter(model_path=str(bert.file(".tflite")), experimental_default_delegate_latest_features=False)
    shapes = [tuple(d["shape"]) for d in interpreter.get_tensor_details()]
    assert not [s for s in shapes if len(s) >= 3 and HEADS in s and s.count(LENGTH) == 2]
    assert [s for s in shapes if HEADS // 2 in s and s.count(LENGTH) == 2]


def test_accuracy_came_back(bert):
    states = bert.report["compression"]["states"]
    given, pruned, tuned = (state["accuracy_top1"] for state in states)
    assert given == pytest.approx(bert.before, abs=0.002)
    assert tuned > pruned and tuned >= given - 0.03
    assert states[1]["parameters"] < 0.7 * states[0]["parameters"]
    assert states[1]["macs"] < 0.6 * states[0]["macs"]


def test_the_mask_still_masks(bert):
    module = load_checkpoint(bert.folder / "out" / "checkpoint").module
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 18, (1, LENGTH)))
    mask = torch.ones_like(ids)
    mask[:, 8:] = 0
    other = ids.clone()
    other[:, 8:] = 5
    with torch.no_grad():
        assert torch.allclose(module(ids, mask), module(other, mask), atol=1e-6)
        assert not torch.allclose(module(ids, torch.ones_like(ids)), module(ids, mask), atol=1e-4)
