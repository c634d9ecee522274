"""Heads and feed-forward units of transformers models, built here from tiny configurations, removed and saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision_ops import usable_torchvision

from pocketforge.model import load
from pocketforge.model.surgery import Checkpoint, KeepChannels, load_checkpoint, save_checkpoint
from pocketforge.pruning import channels
from pocketforge.pruning.base import Subject
from pocketforge.recipe.compress import PruneChannels

TOKENS = torch.arange(8).view(1, 8) * 7 % 64
INPUTS = (TOKENS, torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]]))
COMMON: dict[str, Any] = {"vocab_size": 64, "max_position_embeddings": 32}
BERT = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
# Configuration, and for layer 0: attention module, its head attributes after, feed-forward layer.
KINDS: dict[str, tuple[dict[str, Any], str, dict[str, int], str]] = {
    "DistilBert": (
        {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64},
        "model.distilbert.transformer.layer.{}.attention",
        {"n_heads": 2, "dim": 16},
        "model.distilbert.transformer.layer.{}.ffn.lin1",
    ),
    "Bert": (
        BERT,
        "model.bert.encoder.layer.{}.attention.self",
        {"num_attention_heads": 2, "all_head_size": 16},
        "model.bert.encoder.layer.{}.intermediate.dense",
    ),
    "MobileBert": (
        BERT | {"hidden_size": 64, "embedding_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 2},
        "model.mobilebert.encoder.layer.{}.attention.self",
        {"num_attention_heads": 2, "all_head_size": 16},
        "model.mobilebert.encoder.layer.{}.intermediate.dense",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_heads_and_feed_forward_units_of_a_transformers_folder(kind: str, tmp_path: Path) -> None:
    config, attention, attributes, feed_forward = KINDS[kind]
    usable_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own imports
        import transformers

        made = getattr(transformers, f"{kind}Config")(
            **COMMON, **config, architectures=[f"{kind}ForSequenceClassification"]
        )
        made.save_pretrained(tmp_path / "model")
        definition = "transformers:model"
        module = load.build_model(definition, {}, lambda name: tmp_path / name, seed=0)
    whole = load.count_parameters(module)
    batches = [((TOKENS.repeat(2, 1), torch.ones(2, 8, dtype=torch.int64)), torch.tensor([0, 1]))]
    subject = Subject(module, INPUTS, batches, F.cross_entropy)
    pruned = channels.prune(subject, PruneChannels(ratio=0.5, head_ratio=0.5, importance="taylor"))
    (edit,) = pruned.edits
    assert isinstance(edit, KeepChannels)
    for layer in range(2):
        assert edit.attributes[attention.format(layer)] == attributes
        linear = module.get_submodule(feed_forward.format(layer))
        assert isinstance(linear, nn.Linear) and linear.out_features == 32
    assert any("embedding stream" in entry.why for entry in pruned.report.skipped)
    assert pruned.report.parameters[1] == load.count_parameters(module) < 0.75 * whole
    assert pruned.report.macs[1] < 0.6 * pruned.report.macs[0]
    with torch.no_grad():
        output = module(*INPUTS)
        exported = load.trace(module, INPUTS).module()(*INPUTS)
    assert output.shape == (1, 2)
    torch.testing.assert_close(exported, output)
    save_checkpoint(Checkpoint(module, definition, {}, 0, pruned.edits), tmp_path / "saved", lambda n: tmp_path / n)
    with torch.no_grad():
        loaded = load_checkpoint(tmp_path / "saved").module
        assert torch.equal(loaded(*INPUTS), output)
