"""What is said where a recipe trains by a loss of scores, and the model's output is shares already."""

from __future__ import annotations

import pytest

from pocketforge.outcomes.reference import ModelTensor, Reference, SharesOf
from pocketforge.recipe.toml import parse_recipe
from pocketforge.results.shares import shares_warnings

RECIPE = """
name = "r"
[model]
definition = "m.py"
weights = "w.pt"
[data]
source = "digits"
[[target]]
name = "t"
runtime = "onnx"
"""
FINETUNE = '[[compress]]\ntype = "finetune"\nepochs = 1\n'
OWN = '[[compress]]\ntype = "finetune"\nepochs = 1\nloss = "l.py:nll"\n'
LOGITS = '[[output]]\nrole = "logits"\n'
NONE = '[[output]]\nrole = "logits"\npost = "none"\n'
TAYLOR = '[[compress]]\ntype = "prune_unstructured"\namount = 0.5\ncriterion = "taylor"\n'
FOCAL = '[[output]]\nrole = "logits"\nloss = "focal"\n'
BINARY = '[[output]]\nrole = "binary"\npost = "sigmoid"\n'


def said(more: str, kind: str = "softmax") -> list[str]:
    y = ModelTensor("scores", (1, 10), "float32")
    shares = SharesOf(kind, f"{kind} of 'head' (at m.py:9)", 10 if kind == "softmax" else 0, "scores")
    recipe = parse_recipe(RECIPE + more, "r.toml")
    return list(shares_warnings(recipe, Reference(1, 1, {}, 4, (y,), (y,), shares=(shares,))))


@pytest.mark.parametrize(
    ("more", "by"),
    [
        (FINETUNE, "compress[0] (finetune) goes by cross entropy"),
        (TAYLOR, "compress[0] (prune_unstructured) goes by cross entropy"),
        (FINETUNE + LOGITS, "goes by cross entropy"),
        (FINETUNE + FOCAL, "goes by focal loss"),
    ],
)
def test_softmax_of_softmax_is_said(more: str, by: str) -> None:
    (line,) = said(more)
    assert line.startswith("output 'scores' ends in softmax of 'head' (at m.py:9), and ")
    assert by in line and "of 10 classes the right answer still costs 1.46" in line
    assert 'role = "logits", post = "none"' in line


def test_sigmoid_of_sigmoid_is_said() -> None:
    (line,) = said(FINETUNE + BINARY, "sigmoid")
    assert "binary cross entropy, which takes sigmoid of it once more" in line and "0.31" in line


@pytest.mark.parametrize("more", ["", LOGITS, OWN, FINETUNE + NONE], ids=["none", "untrained", "own", "shares"])
def test_nothing_is_said_where_no_such_loss_is_taken(more: str) -> None:
    assert said(more) == []
